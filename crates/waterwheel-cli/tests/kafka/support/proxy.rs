//! A network before a broker: a TCP proxy whose delay, rate and faults a test chooses while it runs.
//!
//! A cluster made with [`Cluster::proxied`](super::Cluster::proxied) tells clients its proxies' addresses, so that who
//! begins at a proxy has no other way. What it does at random follows from its seed and the numbers of its connections;
//! what it did is counted, so that a test can tell a fault that did not happen.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

/// Bytes that are forwarded as one.
const CHUNK: usize = 16 * 1024;
/// Chunks of a direction that may be on their way, 1 MiB: as much as a socket's buffers.
const CHUNKS: usize = 64;

/// A proxy; all its connections end when this is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What the way through a proxy is like.
#[derive(Clone, Debug, Default)]
pub(crate) struct Way {
    /// How long each byte is on its way, in one direction.
    pub(crate) latency: Duration,
    /// At most so much longer, chosen at random.
    pub(crate) jitter: Duration,
    /// Bytes a second, by direction, for all connections together.
    pub(crate) rate: Option<u64>,
    /// Connections end after a time out of these, half of them in order (FIN), the others by a reset (RST).
    pub(crate) life: Option<Range<Duration>>,
}

/// What a proxy has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Connections accepted.
    pub(crate) accepted: u64,
    /// Connections that ended because their life was over.
    pub(crate) cut: u64,
    /// Those of them that were reset, and those that [`Proxy::reset`] did.
    pub(crate) reset: u64,
    /// Connections of which only the client's half was left.
    pub(crate) halved: u64,
    /// Chunks that waited in a black hole, or were lost in half a connection.
    pub(crate) swallowed: u64,
    /// Bytes forwarded: to the broker, to clients.
    pub(crate) bytes: [u64; 2],
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    broker: Option<SocketAddr>,
    way: Way,
    black_hole: bool,
    over: bool,
    connections: Vec<Connection>,
    counts: Counts,
    random: u64,
    /// Until when each direction is busy with bytes already on their way, under `Way::rate`.
    busy: [Instant; 2],
}

struct Connection {
    number: u64,
    client: TcpStream,
    broker: TcpStream,
    ends: Option<Instant>,
    /// The broker's half is gone, and the client does not hear of it.
    is_half: bool,
}

type Chunk = (Instant, Vec<u8>);

impl Proxy {
    /// A proxy that accepts nothing until it [leads](Self::lead_to) somewhere.
    pub(crate) fn new(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener may be non-blocking");
        let address = listener.local_addr().expect("the listener is bound");
        let state = State {
            broker: None,
            way: Way::default(),
            black_hole: false,
            over: false,
            connections: Vec::new(),
            counts: Counts::default(),
            random: seed,
            busy: [now(); 2],
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let keeper = shared.clone();
        std::thread::spawn(move || keeper.keep(&listener));
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn lead_to(&self, broker: SocketAddr) {
        self.shared.lock().broker = Some(broker);
    }

    /// Changes what the way is like; a new [`Way::life`] is that of connections made from now on.
    pub(crate) fn set(&self, way: Way) {
        self.shared.lock().way = way;
    }

    /// From now on connections are accepted and stay open, and nothing passes; or all that waited passes, and goes on.
    pub(crate) fn black_hole(&self, is_one: bool) {
        self.shared.lock().black_hole = is_one;
        self.shared.changed.notify_all();
    }

    /// Resets all connections.
    pub(crate) fn reset(&self) {
        let mut state = self.shared.lock();
        for connection in std::mem::take(&mut state.connections) {
            connection.reset();
            state.counts.reset += 1;
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Ends the broker's half of all connections. Clients are not told: what they send is lost, and nothing comes.
    pub(crate) fn halve(&self) {
        let mut state = self.shared.lock();
        let mut halved = 0;
        for connection in state.connections.iter_mut().filter(|connection| !connection.is_half) {
            connection.is_half = true;
            halved += 1;
            // It may have ended already.
            let _ = connection.broker.shutdown(Shutdown::Both);
        }
        state.counts.halved += halved;
        drop(state);
        self.shared.changed.notify_all();
    }

    pub(crate) fn counts(&self) -> Counts {
        self.shared.lock().counts
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.over = true;
        std::mem::take(&mut state.connections).into_iter().for_each(Connection::reset);
        drop(state);
        self.shared.changed.notify_all();
    }
}

#[expect(clippy::disallowed_methods, reason = "a network has delays")]
fn now() -> Instant {
    Instant::now()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts connections, and ends those whose life is over.
    fn keep(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept().ok();
            if let Some((client, _)) = &accepted {
                // Without its broker there is no connection: the client sees a reset.
                let _ = self.connect(client);
            }
            let mut state = self.lock();
            if state.over {
                return;
            }
            state.cut(now());
            if accepted.is_none() {
                drop(self.changed.wait_timeout(state, Duration::from_millis(5)));
            }
        }
    }

    fn connect(self: &Arc<Self>, client: &TcpStream) -> std::io::Result<()> {
        let Some(broker) = self.lock().broker else { return Ok(()) };
        client.set_nonblocking(false)?;
        client.set_nodelay(true)?;
        let broker = TcpStream::connect_timeout(&broker, Duration::from_secs(5))?;
        broker.set_nodelay(true)?;
        let mut state = self.lock();
        let number = state.counts.accepted;
        state.counts.accepted += 1;
        let ends = state.way.life.clone().map(|life| {
            let span = (life.end - life.start).as_micros().max(1) as u64;
            now() + life.start + Duration::from_micros(state.random(number) % span)
        });
        let connection =
            Connection { number, client: client.try_clone()?, broker: broker.try_clone()?, ends, is_half: false };
        state.connections.push(connection);
        drop(state);
        let ways = [(client.try_clone()?, broker.try_clone()?), (broker, client.try_clone()?)];
        for (direction, (from, to)) in ways.into_iter().enumerate() {
            let (chunks, taken) = sync_channel(CHUNKS);
            let shared = self.clone();
            let source = from.try_clone()?;
            std::thread::spawn(move || shared.read(number, source, &chunks));
            let shared = self.clone();
            std::thread::spawn(move || shared.write(number, direction, &from, to, &taken));
        }
        Ok(())
    }

    /// Reads what comes and says when it is due on the other side.
    fn read(&self, number: u64, mut from: TcpStream, chunks: &SyncSender<Chunk>) {
        let (mut buffer, mut last) = (vec![0; CHUNK], now());
        loop {
            let length = match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let mut state = self.lock();
            let jitter = state.way.jitter.as_micros() as u64;
            let jitter = if jitter == 0 { 0 } else { state.random(number) % jitter };
            let due = now() + state.way.latency + Duration::from_micros(jitter);
            drop(state);
            last = last.max(due);
            if chunks.send((last, buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    }

    /// Writes each chunk when it is due, unless it is swallowed.
    fn write(&self, number: u64, direction: usize, from: &TcpStream, mut to: TcpStream, chunks: &Receiver<Chunk>) {
        while let Ok((due, chunk)) = chunks.recv() {
            match self.pass(number, direction, due, chunk.len()) {
                Passage::Free if to.write_all(&chunk).is_ok() => {}
                Passage::Lost => {}
                _ => break,
            }
        }
        // The end is told like anything else: not out of a black hole, and not to half a connection.
        match self.pass(number, direction, now(), 0) {
            Passage::Lost if direction == 1 => return,
            Passage::Over => return,
            // It may have ended already.
            _ => drop(to.shutdown(Shutdown::Write)),
        }
        let mut state = self.lock();
        if direction == 0 {
            // The client has gone.
            let _ = from.shutdown(Shutdown::Both);
            state.connections.retain(|connection| connection.number != number);
        }
    }

    /// Waits until bytes may pass.
    fn pass(&self, number: u64, direction: usize, due: Instant, length: usize) -> Passage {
        let mut state = self.lock();
        let (mut due, mut paced, mut swallowed) = (due, false, false);
        loop {
            let Some(connection) = state.connections.iter().find(|connection| connection.number == number) else {
                return Passage::Over;
            };
            let is_half = connection.is_half;
            if is_half || state.black_hole {
                state.counts.swallowed += u64::from(!swallowed && length > 0);
                swallowed = true;
                if is_half {
                    return Passage::Lost;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if let Some(wait) = due.checked_duration_since(now()).filter(|wait| !wait.is_zero()) {
                state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            if let (Some(rate), false) = (state.way.rate, paced) {
                paced = true;
                let took = Duration::from_secs_f64(length as f64 / rate as f64);
                due = state.busy[direction].max(now()) + took;
                state.busy[direction] = due;
                continue;
            }
            state.counts.bytes[direction] += length as u64;
            return Passage::Free;
        }
    }
}

enum Passage {
    Free,
    Lost,
    Over,
}

impl State {
    /// Ends the connections whose life is over, unless nothing passes.
    fn cut(&mut self, now: Instant) {
        let is_over = |connection: &mut Connection| connection.ends.is_some_and(|at| at <= now);
        if self.black_hole {
            return;
        }
        for connection in self.connections.extract_if(.., is_over).collect::<Vec<_>>() {
            self.counts.cut += 1;
            if self.random(connection.number).is_multiple_of(2) {
                self.counts.reset += 1;
                connection.reset();
            } else {
                connection.end();
            }
        }
    }

    /// A random number, of this proxy's seed and a connection's number.
    fn random(&mut self, number: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random ^ number.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Connection {
    fn end(self) {
        for half in [&self.client, &self.broker] {
            // It may have ended already.
            let _ = half.shutdown(Shutdown::Both);
        }
    }

    fn reset(self) {
        for half in [&self.client, &self.broker] {
            // The last of the threads that hold a half closes it, and that resets it. It may have ended already.
            let _ = set_socket_linger(half, Some(Duration::ZERO));
            let _ = half.shutdown(Shutdown::Read);
        }
    }
}
