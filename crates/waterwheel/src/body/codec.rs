//! Formats that need context: objects that decode and encode, and the adapter that puts one before a handler.
//!
//! Neither is async: what is at hand is used at once, and only what is missing (a schema that nobody has asked the registry
//! for) is a future. A record that needs none costs no allocation beside its body.

use std::fmt;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::Either;

use super::{Decode, EncodeError, FromBytes, Keyed, Raw};
use crate::failure::Failure;
use crate::handler::{Handler, Message};
use crate::record::Record;

/// A future that fetches what a decoder or encoder has to have first.
pub type Wait<E> = Pin<Box<dyn Future<Output = Result<(), E>> + Send>>;

/// What came of one call of a [`Decoder`].
pub enum Decoding<T> {
    /// The body.
    Done(T),
    /// Await this, then ask again.
    Wait(Wait<Failure>),
}

/// Decodes records with a context of its own.
///
/// [`decoded`] puts one before a handler; [`read`](Self::read) decodes one record anywhere else (in a batch handler, or of a
/// consumer).
pub trait Decoder<T>: Send + Sync + 'static {
    /// Decodes, or says what to wait for. What cannot be decoded is [`Failure::undecodable`]; what may pass (a registry
    /// that does not answer) should be [`Failure::uncounted`], so that no record is dead-lettered for it.
    fn decode(&self, record: &Record) -> Result<Decoding<T>, Failure>;

    /// Decodes, and waits for what it needs. Dropping the future forgets the answer that it waits for.
    fn read<'a>(&'a self, record: &'a Record) -> impl Future<Output = Result<T, Failure>> + Send + 'a
    where
        Self: Sized,
        T: Send + 'a,
    {
        async move {
            loop {
                match self.decode(record)? {
                    Decoding::Done(body) => return Ok(body),
                    Decoding::Wait(wait) => wait.await?,
                }
            }
        }
    }
}

impl<T, D: Decoder<T>> Decoder<T> for Arc<D> {
    fn decode(&self, record: &Record) -> Result<Decoding<T>, Failure> {
        (**self).decode(record)
    }
}

/// Bytes to be sent, and the header that says how to read them, if their format has one.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The key's or value's bytes; `None` for a null.
    pub bytes: Option<Vec<u8>>,
    /// Name and value.
    pub header: Option<(&'static str, Vec<u8>)>,
}

impl fmt::Debug for Encoded {
    /// Names the size only (promise R9).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bytes {
            Some(bytes) => write!(f, "Encoded({} bytes)", bytes.len()),
            None => f.write_str("Encoded(null)"),
        }
    }
}

/// What came of one call of an [`Encoder`].
pub enum Encoding {
    /// The bytes.
    Done(Encoded),
    /// Await this, then ask again.
    Wait(Wait<EncodeError>),
}

/// Encodes values for a topic with a context of its own; the counterpart of [`Decoder`].
pub trait Encoder<T: ?Sized>: Send + Sync + 'static {
    /// Encodes, or says what to wait for.
    fn encode(&self, topic: &str, value: &T) -> Result<Encoding, EncodeError>;

    /// Encodes, and waits for what it needs. Dropping the future forgets the answer that it waits for.
    fn write<'a>(
        &'a self,
        topic: &'a str,
        value: &'a T,
    ) -> impl Future<Output = Result<Encoded, EncodeError>> + Send + 'a
    where
        Self: Sized,
        T: Sync,
    {
        async move {
            loop {
                match self.encode(topic, value)? {
                    Encoding::Done(encoded) => return Ok(encoded),
                    Encoding::Wait(wait) => wait.await?,
                }
            }
        }
    }
}

impl<T: ?Sized, E: Encoder<T>> Encoder<T> for Arc<E> {
    fn encode(&self, topic: &str, value: &T) -> Result<Encoding, EncodeError> {
        (**self).encode(topic, value)
    }
}

/// The [`Decoder`] of a type that needs no context. Beside one that does, in [`keyed`].
pub struct Plain<T>(PhantomData<fn() -> T>);

impl<T: Decode> Plain<T> {
    /// Decodes the record as `T` does.
    #[expect(clippy::new_without_default, reason = "it is named for its type, which a default would have to be told")]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Decode> Decoder<T> for Plain<T> {
    fn decode(&self, record: &Record) -> Result<Decoding<T>, Failure> {
        T::decode(record).map(Decoding::Done).map_err(Failure::undecodable)
    }
}

/// The [`Decoder`] of a key that needs no context.
pub struct PlainKey<T>(PhantomData<fn() -> T>);

impl<T: FromBytes> PlainKey<T> {
    /// Decodes the key as `T` does.
    #[expect(clippy::new_without_default, reason = "it is named for its type, which a default would have to be told")]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: FromBytes> Decoder<T> for PlainKey<T> {
    fn decode(&self, record: &Record) -> Result<Decoding<T>, Failure> {
        T::from_bytes(record.key()).map(Decoding::Done).map_err(|e| Failure::undecodable(format!("key: {e}")))
    }
}

/// Key and value, each by a decoder of its own. Made by [`keyed`].
pub struct KeyedBy<K, V> {
    key: K,
    value: V,
}

/// Decodes keys by `key` (a decoder of keys) and values by `value`, into [`Keyed`].
pub fn keyed<K, V>(key: K, value: V) -> KeyedBy<K, V> {
    KeyedBy { key, value }
}

impl<A, B, K: Decoder<A>, V: Decoder<B>> Decoder<Keyed<A, B>> for KeyedBy<K, V> {
    fn decode(&self, record: &Record) -> Result<Decoding<Keyed<A, B>>, Failure> {
        let key = match self.key.decode(record)? {
            Decoding::Done(key) => key,
            Decoding::Wait(wait) => return Ok(Decoding::Wait(wait)),
        };
        match self.value.decode(record)? {
            Decoding::Done(value) => Ok(Decoding::Done(Keyed { key, value })),
            Decoding::Wait(wait) => Ok(Decoding::Wait(wait)),
        }
    }
}

/// A handler of records that `decoder` decodes. Made by [`decoded`].
pub struct Decoded<T, D, H> {
    inner: Arc<(D, H)>,
    body: PhantomData<fn() -> T>,
}

/// Puts a decoder before a handler: give what it makes to `WorkerBuilder::handler` or `HistoryBuilder::handler`.
///
/// What the decoder waits for, it waits for within the attempt: the handler's time-out counts, and other keys go on. What
/// cannot be decoded is a failure of class `decode`, with the record's own bytes in the dead letter.
pub fn decoded<T, D: Decoder<T>, H: Handler<T>>(decoder: D, handler: H) -> Decoded<T, D, H> {
    Decoded { inner: Arc::new((decoder, handler)), body: PhantomData }
}

type Attempt = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

impl<T, D, H> Handler<Raw> for Decoded<T, D, H>
where
    T: Send + 'static,
    D: Decoder<T>,
    H: Handler<T>,
{
    type Future = Either<H::Future, Either<Ready<Result<(), Failure>>, Attempt>>;

    fn handle(&self, message: Message<Raw>) -> Self::Future {
        let (decoder, handler) = &*self.inner;
        match attempt(decoder, &message) {
            Ok(Decoding::Done(body)) => Either::Left(handler.handle(message.with_body(body))),
            Err(failure) => Either::Right(Either::Left(ready(Err(failure)))),
            Ok(Decoding::Wait(mut wait)) => {
                let inner = self.inner.clone();
                Either::Right(Either::Right(Box::pin(async move {
                    loop {
                        wait.await?;
                        match attempt(&inner.0, &message)? {
                            Decoding::Done(body) => return inner.1.handle(message.with_body(body)).await,
                            Decoding::Wait(next) => wait = next,
                        }
                    }
                })))
            }
        }
    }
}

/// A decoder that panics has met bytes that it does not expect.
fn attempt<T>(decoder: &impl Decoder<T>, record: &Record) -> Result<Decoding<T>, Failure> {
    catch_unwind(AssertUnwindSafe(|| decoder.decode(record)))
        .unwrap_or_else(|_| Err(Failure::undecodable("decoding panicked")))
}
