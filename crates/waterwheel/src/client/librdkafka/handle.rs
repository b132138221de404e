//! A client instance of librdkafka and what hangs on it: its making, its log, its queues and topics, its end.
//!
//! Whatever points into an instance holds an [`Arc<Handle>`], so an instance ends after everything that uses it. It ends
//! on a thread of its own, because `rd_kafka_destroy` may wait for brokers that hang; dropping never blocks.

use std::any::Any;
use std::ffi::{c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::bindings as sys;
use tokio::sync::oneshot;

use super::errors;
use super::list::c_string;
use super::properties::{self, Redaction, Role};
use super::siblings::{Setup, Siblings};
use super::tokens;
use crate::client::{ClientEvent, ClientRole, PortFuture};
use crate::config::Secret;
use crate::error::KafkaError;

/// A client instance.
pub(super) struct Handle {
    rk: NonNull<sys::rd_kafka_t>,
    /// Read by the log callback until the instance has ended.
    log: Option<Box<Log>>,
    /// What else the instance may read or write until then.
    kept: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
    /// Told once the instance has ended.
    ended: Mutex<Vec<oneshot::Sender<()>>>,
}

// SAFETY: librdkafka's instances are made to be used from any thread; what is in `log` is only read.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    /// Makes an instance, which connects to nothing until it is used. `events`: what its queues yield as events; errors, and
    /// the statistics that the user asked for, are told to who listens as they are taken from a queue.
    pub(super) fn new(role: Role, setup: &Setup, events: i32) -> Result<Arc<Self>, KafkaError> {
        let siblings = &setup.siblings;
        let properties = siblings.properties_now(setup);
        let every = setup.statistics_every().filter(|_| role.is_heard());
        let log = Box::new(Log {
            redaction: Redaction::of(&properties),
            role,
            siblings: siblings.clone(),
            every,
            last_told: AtomicU64::new(0),
        });
        let events = if every.is_some() { events | sys::RD_KAFKA_EVENT_STATS } else { events };
        let conf = Conf::new();
        for (name, value) in properties::of(role, &properties) {
            conf.set(&name, &value).map_err(|said| refused(&log.redaction.apply(&said)))?;
        }
        // SAFETY: the configuration is live; `log` is boxed and outlives the instance (see `drop`).
        unsafe {
            sys::rd_kafka_conf_set_opaque(conf.0, (&raw const *log).cast_mut().cast());
            sys::rd_kafka_conf_set_log_cb(conf.0, Some(on_log));
            sys::rd_kafka_conf_set_events(conf.0, events);
            if role.is_heard() {
                sys::rd_kafka_conf_set_throttle_cb(conf.0, Some(on_throttle));
            }
        }
        // Tokens are renewed on a thread of librdkafka's, because not every client's queue is polled all the time.
        let mechanism = properties.get("sasl.mechanism").or_else(|| properties.get("sasl.mechanisms"));
        let oauth = mechanism.is_some_and(|m| m.eq_ignore_ascii_case("OAUTHBEARER"));
        if oauth {
            // SAFETY: the configuration is live.
            unsafe {
                sys::rd_kafka_conf_enable_sasl_queue(conf.0, 1);
                if siblings.tokens().is_some() {
                    sys::rd_kafka_conf_set_oauthbearer_token_refresh_cb(conf.0, Some(tokens::on_refresh));
                }
            }
        }
        let kind = match role {
            Role::Membership | Role::Fetch | Role::Reread => sys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
            Role::Produce | Role::Admin => sys::rd_kafka_type_t::RD_KAFKA_PRODUCER,
        };
        let mut said = Said::default();
        // SAFETY: the configuration is live, the buffer is as long as said.
        let rk = unsafe { sys::rd_kafka_new(kind, conf.0, said.as_mut_ptr(), said.len()) };
        let Some(rk) = NonNull::new(rk) else {
            return Err(refused(&log.redaction.apply(&said.text())));
        };
        // The instance owns the configuration now.
        std::mem::forget(conf);
        let handle = Arc::new(Self { rk, log: Some(log), kept: Mutex::default(), ended: Mutex::default() });
        siblings.join(&handle)?;
        if oauth {
            // SAFETY: the instance is live, the error object is ours.
            unsafe { errors::take(sys::rd_kafka_sasl_background_callbacks_enable(handle.as_ptr()), "OAUTHBEARER")? };
        }
        Ok(handle)
    }

    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_t {
        self.rk.as_ptr()
    }

    /// A property as it is in force.
    pub(super) fn property(&self, name: &str) -> Option<String> {
        let name = std::ffi::CString::new(name).ok()?;
        let mut said = Said::default();
        let mut len = said.len();
        // SAFETY: the instance is live, the name ends in NUL, the buffer is as long as said.
        let known = unsafe {
            let conf = sys::rd_kafka_conf(self.as_ptr());
            sys::rd_kafka_conf_get(conf, name.as_ptr(), said.as_mut_ptr(), &raw mut len)
        };
        (known == sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK).then(|| said.text())
    }

    /// Keeps something that the instance reads or writes until it has ended.
    pub(super) fn keep(&self, it: Arc<dyn Any + Send + Sync>) {
        lock(&self.kept).push(it);
    }

    /// Removes secrets from what librdkafka said.
    pub(super) fn redact(&self, text: &str) -> String {
        self.log.as_ref().map_or_else(String::new, |log| log.redact(text))
    }

    pub(super) fn role(&self) -> ClientRole {
        self.log.as_ref().map_or(ClientRole::Admin, |log| log.role.public())
    }

    /// For connections that are made from now on; a broker that refused the old ones is tried again at once.
    pub(super) fn set_credentials(&self, user: &str, password: &Secret) -> Result<(), KafkaError> {
        let (user, password) = (c_string(user)?, c_string(password.expose())?);
        // SAFETY: the instance is live, both texts end in NUL and are copied; the error object is ours.
        unsafe {
            let refused = sys::rd_kafka_sasl_set_credentials(self.as_ptr(), user.as_ptr(), password.as_ptr());
            errors::take(refused, "the credentials")
        }
    }

    /// Tells who listens of an event that is about the instance itself.
    fn tell(&self, event: &Event) {
        let Some(log) = &self.log else { return };
        match event.kind() {
            sys::RD_KAFKA_EVENT_ERROR => log.siblings.say(ClientEvent::Error {
                role: log.role.public(),
                error: event.error(self),
                is_fatal: event.is_fatal(),
            }),
            sys::RD_KAFKA_EVENT_STATS => {
                // SAFETY: the event is live, and its text with it.
                log.statistics(&unsafe { errors::text(sys::rd_kafka_event_stats(event.as_ptr())) });
            }
            _ => {}
        }
    }

    /// What tells it from others in this process.
    fn name(&self) -> String {
        // SAFETY: the instance is live, and its name with it.
        unsafe { errors::text(sys::rd_kafka_name(self.as_ptr())) }
    }

    /// Ready once the instance has ended, or at once where it has already.
    pub(super) fn on_end(&self) -> PortFuture<()> {
        let (tell, told) = oneshot::channel();
        lock(&self.ended).push(tell);
        Box::pin(async move {
            // A sender that is gone means the same as one that spoke.
            _ = told.await;
            Ok(())
        })
    }

    /// The fatal error of this instance, if there is one.
    pub(super) fn fatal(&self) -> Option<KafkaError> {
        let mut said = Said::default();
        // SAFETY: the instance is live, the buffer is as long as said.
        let code = unsafe { errors::raw::rd_kafka_fatal_error(self.as_ptr(), said.as_mut_ptr(), said.len()) };
        (code != 0).then(|| errors::error(code, self.redact(&said.text())))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        type Kept = (Option<Box<Log>>, Vec<Arc<dyn Any + Send + Sync>>);
        struct Last(*mut sys::rd_kafka_t, Kept, Vec<oneshot::Sender<()>>);
        // SAFETY: the last owner of the instance gives it to one other thread.
        unsafe impl Send for Last {}

        if let Some(log) = &self.log {
            log.siblings.ended(&self.name());
        }
        let ended = std::mem::take(&mut *lock(&self.ended));
        let kept = (self.log.take(), std::mem::take(&mut *lock(&self.kept)));
        // An instance that stays for want of a thread goes on using what it was given.
        let last = ManuallyDrop::new(Last(self.rk.as_ptr(), kept, ended));
        let end = move || {
            let Last(rk, kept, ended) = ManuallyDrop::into_inner(last);
            // SAFETY: this was the last owner; queues, topics and everything else held one too, so all are gone.
            // Without leaving the group: who wants to leave has done so before.
            unsafe { sys::rd_kafka_destroy_flags(rk, sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) };
            drop(kept);
            for tell in ended {
                // Nobody may be waiting any more.
                _ = tell.send(());
            }
        };
        if let Err(error) = std::thread::Builder::new().name("waterwheel-end".into()).spawn(end) {
            // The closure is gone, the instance leaks: better than to block here.
            tracing::error!(target: TARGET, %error, "no thread to end a client on; it stays");
        }
    }
}

/// The log's target.
const TARGET: &str = "waterwheel::librdkafka";

/// What the calls of an instance need.
pub(super) struct Log {
    redaction: Redaction,
    pub(super) role: Role,
    pub(super) siblings: Arc<Siblings>,
    /// How often the user wants statistics.
    every: Option<Duration>,
    /// When they were told last, by their own clock, in microseconds.
    last_told: AtomicU64,
}

impl Log {
    fn redact(&self, text: &str) -> String {
        self.siblings.redact(&self.redaction.apply(text))
    }

    /// Tells statistics, unless they come more often than they are wanted.
    fn statistics(&self, json: &str) {
        let (Some(every), Some(written)) = (self.every, super::figures::written(json)) else { return };
        let last = Duration::from_micros(self.last_told.load(Ordering::Relaxed));
        // They are written a little before or after their time.
        if last.is_zero() || written.saturating_sub(last) + SLACK >= every {
            self.last_told.store(u64::try_from(written.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
            self.siblings.statistics(self.role.public(), json);
        }
    }
}

const SLACK: Duration = Duration::from_millis(100);

/// Called by who polls the instance's queue.
unsafe extern "C" fn on_throttle(
    _: *mut sys::rd_kafka_t,
    _: *const c_char,
    broker: i32,
    time_ms: c_int,
    log: *mut c_void,
) {
    // SAFETY: the opaque is the instance's `Log`, which outlives it.
    let log = unsafe { &*log.cast::<Log>() };
    let time = Duration::from_millis(u64::try_from(time_ms).unwrap_or(0));
    // Once more when it is over.
    if !time.is_zero() {
        log.siblings.say(ClientEvent::Throttled { role: log.role.public(), broker, time });
    }
}

/// Called from any of librdkafka's threads, sometimes under a lock of its own.
unsafe extern "C" fn on_log(rk: *const sys::rd_kafka_t, level: c_int, facility: *const c_char, said: *const c_char) {
    if rk.is_null() {
        // Without an instance there is no telling what is secret.
        return;
    }
    // SAFETY: the opaque is the `Log` given to `rd_kafka_conf_set_opaque`, which outlives the instance; both texts live
    // through the call.
    let (log, facility, said) = unsafe {
        let log = sys::rd_kafka_opaque(rk).cast::<Log>();
        if log.is_null() {
            return;
        }
        (&*log, errors::text(facility), errors::text(said))
    };
    let (said, client) = (log.redact(&said), log.role.public().as_str());
    // Syslog's levels. librdkafka repeats by itself nearly everything it calls an error; what does not mend comes back
    // through the ports, and so does what these two facilities say each time that a broker cannot be reached.
    match level {
        _ if ["FAIL", "ERROR"].contains(&facility.as_str()) => {
            tracing::debug!(target: TARGET, client, facility, "{said}")
        }
        ..=2 => tracing::error!(target: TARGET, client, facility, "{said}"),
        3..=4 => tracing::warn!(target: TARGET, client, facility, "{said}"),
        5 => tracing::info!(target: TARGET, client, facility, "{said}"),
        6 => tracing::debug!(target: TARGET, client, facility, "{said}"),
        _ => tracing::trace!(target: TARGET, client, facility, "{said}"),
    }
}

/// A configuration that no instance owns yet.
struct Conf(*mut sys::rd_kafka_conf_t);

impl Conf {
    fn new() -> Self {
        // SAFETY: allocates.
        Self(unsafe { sys::rd_kafka_conf_new() })
    }

    fn set(&self, name: &str, value: &str) -> Result<(), String> {
        let (Ok(name), Ok(value)) = (std::ffi::CString::new(name), std::ffi::CString::new(value)) else {
            return Err(format!("property {name:?} contains a NUL"));
        };
        let mut said = Said::default();
        // SAFETY: the configuration is live, both texts end in NUL and are copied, the buffer is as long as said.
        let result =
            unsafe { sys::rd_kafka_conf_set(self.0, name.as_ptr(), value.as_ptr(), said.as_mut_ptr(), said.len()) };
        if result == sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK { Ok(()) } else { Err(said.text()) }
    }
}

impl Drop for Conf {
    fn drop(&mut self) {
        // SAFETY: not given to an instance, freed once.
        unsafe { sys::rd_kafka_conf_destroy(self.0) }
    }
}

fn refused(said: &str) -> KafkaError {
    KafkaError::new(errors::INVALID_ARGUMENT, "the client cannot be made", said)
}

/// Room for what librdkafka says about an error.
pub(super) struct Said([c_char; 512]);

impl Default for Said {
    fn default() -> Self {
        Self([0; 512])
    }
}

impl Said {
    pub(super) fn as_mut_ptr(&mut self) -> *mut c_char {
        self.0.as_mut_ptr()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn text(&self) -> String {
        // SAFETY: the buffer starts as zeros and librdkafka ends what it writes with NUL.
        unsafe { errors::text(self.0.as_ptr()) }
    }
}

/// A queue of an instance.
pub(super) struct Queue {
    queue: NonNull<sys::rd_kafka_queue_t>,
    /// Dropped after the queue.
    handle: Arc<Handle>,
}

// SAFETY: librdkafka's queues lock themselves.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// A queue of its own.
    pub(super) fn new(handle: &Arc<Handle>) -> Result<Self, KafkaError> {
        // SAFETY: the instance is live.
        Self::of(handle, unsafe { sys::rd_kafka_queue_new(handle.as_ptr()) })
    }

    /// The instance's queue for delivery reports and errors.
    pub(super) fn main(handle: &Arc<Handle>) -> Result<Self, KafkaError> {
        // SAFETY: the instance is live.
        Self::of(handle, unsafe { sys::rd_kafka_queue_get_main(handle.as_ptr()) })
    }

    /// The queue of a member of a group, which yields everything that concerns the instance from now on.
    pub(super) fn group(handle: &Arc<Handle>) -> Result<Self, KafkaError> {
        // SAFETY: the instance is live.
        unsafe {
            errors::check(sys::rd_kafka_poll_set_consumer(handle.as_ptr()) as i32, "")?;
            Self::of(handle, sys::rd_kafka_queue_get_consumer(handle.as_ptr()))
        }
    }

    fn of(handle: &Arc<Handle>, queue: *mut sys::rd_kafka_queue_t) -> Result<Self, KafkaError> {
        let queue = NonNull::new(queue).ok_or_else(errors::ended)?;
        Ok(Self { queue, handle: handle.clone() })
    }

    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_queue_t {
        self.queue.as_ptr()
    }

    /// The next event, waiting at most `wait_ms`.
    pub(super) fn poll(&self, wait_ms: c_int) -> Option<Event> {
        // SAFETY: the queue is live; the event is ours.
        let event = NonNull::new(unsafe { sys::rd_kafka_queue_poll(self.as_ptr(), wait_ms) }).map(Event)?;
        self.handle.tell(&event);
        Some(event)
    }

    /// Ends a `poll` that waits on another thread.
    pub(super) fn interrupt(&self) {
        // SAFETY: the queue is live.
        unsafe { sys::rd_kafka_queue_yield(self.as_ptr()) }
    }

    /// Has `call` called with `with` whenever the queue gets its first entry, under the queue's lock: it must not call
    /// librdkafka. `None` ends that; no call is under way after this returns.
    ///
    /// # Safety
    /// `call` must be sound to call with `with` from any thread until it is ended or the queue is dropped.
    pub(super) unsafe fn on_first(
        &self,
        call: Option<unsafe extern "C" fn(*mut sys::rd_kafka_t, *mut c_void)>,
        with: *mut c_void,
    ) {
        // SAFETY: the queue is live; the caller vouches for the rest.
        unsafe { sys::rd_kafka_queue_cb_event_enable(self.as_ptr(), call, with) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: ours, freed once, before the instance.
        unsafe { sys::rd_kafka_queue_destroy(self.as_ptr()) }
    }
}

/// An event taken from a queue.
pub(super) struct Event(NonNull<sys::rd_kafka_event_t>);

impl Event {
    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_event_t {
        self.0.as_ptr()
    }

    pub(super) fn kind(&self) -> i32 {
        // SAFETY: the event is live.
        unsafe { sys::rd_kafka_event_type(self.as_ptr()) }
    }

    pub(super) fn code(&self) -> i32 {
        // SAFETY: the event is live.
        unsafe { errors::raw::rd_kafka_event_error(self.as_ptr()) }
    }

    /// The event's error as its maker words it.
    pub(super) fn error(&self, handle: &Handle) -> KafkaError {
        // SAFETY: the event is live, and so is its text.
        let said = unsafe { errors::text(sys::rd_kafka_event_error_string(self.as_ptr())) };
        errors::error(self.code(), handle.redact(&said))
    }

    /// Of an error event: whether the instance cannot go on.
    pub(super) fn is_fatal(&self) -> bool {
        // SAFETY: the event is live, and callers ask error events only.
        unsafe { sys::rd_kafka_event_error_is_fatal(self.as_ptr()) != 0 }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { sys::rd_kafka_event_destroy(self.as_ptr()) }
    }
}

/// A topic known to an instance.
pub(super) struct Topic {
    topic: NonNull<sys::rd_kafka_topic_t>,
    /// Dropped after the topic.
    handle: Arc<Handle>,
}

// SAFETY: librdkafka's topics lock themselves.
unsafe impl Send for Topic {}
// SAFETY: as above.
unsafe impl Sync for Topic {}

impl Topic {
    pub(super) fn new(handle: &Arc<Handle>, name: &str) -> Result<Self, KafkaError> {
        // SAFETY: null means the default configuration.
        unsafe { Self::with(handle, name, std::ptr::null_mut()) }
    }

    /// # Safety
    /// `conf` is null or a topic configuration of the caller's, which is taken over; what it points to outlives the
    /// instance.
    pub(super) unsafe fn with(
        handle: &Arc<Handle>,
        name: &str,
        conf: *mut sys::rd_kafka_topic_conf_t,
    ) -> Result<Self, KafkaError> {
        let c_name = match c_string(name) {
            Ok(c_name) => c_name,
            Err(error) => {
                if !conf.is_null() {
                    // SAFETY: the caller gave it to us.
                    unsafe { sys::rd_kafka_topic_conf_destroy(conf) };
                }
                return Err(error);
            }
        };
        // SAFETY: the instance is live, the name ends in NUL and is copied, the configuration is taken over in any case.
        let topic = unsafe { sys::rd_kafka_topic_new(handle.as_ptr(), c_name.as_ptr(), conf) };
        match NonNull::new(topic) {
            Some(topic) => Ok(Self { topic, handle: handle.clone() }),
            None => Err(errors::last(name)),
        }
    }

    /// The instance that knows it.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_topic_t {
        self.topic.as_ptr()
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: ours, freed once, before the instance.
        unsafe { sys::rd_kafka_topic_destroy(self.as_ptr()) }
    }
}

/// Locks; what a panicking thread left behind is still whole, because nothing here panics in the middle of a change.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
