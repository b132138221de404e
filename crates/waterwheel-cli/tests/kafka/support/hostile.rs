//! A broker that answers as a test says: honestly, or with anything else.
//!
//! It speaks as little of Kafka's protocol as a member needs to get to the answer in question: one topic `t` with one
//! partition, one group whose only member is who asks, SCRAM without a check. No code of it is shared with a client.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::wire::Body;

/// The topic.
pub(crate) const TOPIC: &str = "t";

/// What is asked, by its number in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub(crate) enum Api {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    SaslHandshake = 17,
    Versions = 18,
    SaslAuthenticate = 36,
}

/// All of them, and the only version in which each is understood here.
const VERSIONS: [(Api, i16); 14] = [
    // Not answered; but without it librdkafka asks for another version of Fetch.
    (Api::Produce, 3),
    (Api::Fetch, 4),
    (Api::ListOffsets, 1),
    (Api::Metadata, 1),
    (Api::OffsetCommit, 2),
    (Api::OffsetFetch, 1),
    (Api::FindCoordinator, 0),
    (Api::JoinGroup, 0),
    (Api::Heartbeat, 0),
    (Api::LeaveGroup, 0),
    (Api::SyncGroup, 0),
    (Api::SaslHandshake, 1),
    (Api::Versions, 3),
    (Api::SaslAuthenticate, 0),
];

/// What is answered to one kind of question.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// This body, in a right frame.
    Body(Body),
    /// The honest body, with another correlation id.
    WrongNumber,
    /// These bytes instead of a frame.
    Bytes(Vec<u8>),
    /// The honest frame up to its half, and then nothing.
    Half,
    /// What the server says first in SCRAM, made of the client's nonce.
    ServerFirst(fn(&str) -> String),
}

/// The broker; it ends when this is dropped.
pub(crate) struct Hostile {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    address: SocketAddr,
    to: Api,
    answer: Answer,
    /// How often it gave the answer in question.
    given: AtomicUsize,
    over: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
    /// All that clients sent.
    heard: Mutex<Vec<u8>>,
}

impl Hostile {
    /// A broker that is honest but for its answers to one kind of question.
    pub(crate) fn start(to: Api, answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("the listener is bound");
        let shared = Arc::new(Shared {
            address,
            to,
            answer,
            given: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            connections: Mutex::default(),
            heard: Mutex::default(),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.over.load(Ordering::SeqCst) {
                    return;
                }
                let serving = accepting.clone();
                lock(&accepting.connections).extend(client.try_clone());
                std::thread::spawn(move || {
                    // A client that goes away ends its connection, and so does what is not Kafka's protocol.
                    let kept = client.try_clone();
                    serving.serve(client);
                    drop(kept.map(|kept| kept.shutdown(std::net::Shutdown::Both)));
                });
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often it gave the answer in question.
    pub(crate) fn given(&self) -> usize {
        self.shared.given.load(Ordering::SeqCst)
    }

    /// All that clients have sent.
    pub(crate) fn heard(&self) -> Vec<u8> {
        lock(&self.shared.heard).clone()
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        for connection in lock(&self.shared.connections).drain(..) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
        // The thread that accepts looks up.
        drop(TcpStream::connect(self.address));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn serve(&self, mut client: TcpStream) -> Option<()> {
        let mut steps = 0;
        loop {
            let mut length = [0; 4];
            client.read_exact(&mut length).ok()?;
            lock(&self.heard).extend(length);
            let length = usize::try_from(i32::from_be_bytes(length)).ok().filter(|length| *length < 1 << 20)?;
            let mut request = vec![0; length];
            client.read_exact(&mut request).ok()?;
            lock(&self.heard).extend(&request);
            let number = i16::from_be_bytes(request.get(..2)?.try_into().ok()?);
            let correlation: [u8; 4] = request.get(4..8)?.try_into().ok()?;
            let (api, _) = VERSIONS.into_iter().find(|(api, _)| *api as i16 == number)?;
            steps += usize::from(api == Api::SaslAuthenticate);
            let honest = match api {
                Api::SaslAuthenticate => sasl(&request, steps, |nonce| format!("r={nonce}x,s=c2FsdA==,i=4096")),
                _ => self.honest(api),
            };
            if api != self.to {
                client.write_all(&frame(correlation, &honest)).ok()?;
                continue;
            }
            let answer = match &self.answer {
                Answer::Body(body) => frame(correlation, body),
                Answer::WrongNumber => frame([0x7f; 4], &honest),
                Answer::Bytes(bytes) => bytes.clone(),
                Answer::Half => {
                    let mut whole = frame(correlation, &honest);
                    whole.truncate(whole.len() / 2);
                    whole
                }
                Answer::ServerFirst(say) => frame(correlation, &sasl(&request, steps, *say)),
            };
            client.write_all(&answer).ok()?;
            self.given.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn honest(&self, api: Api) -> Body {
        let host = |body: Body| body.string("127.0.0.1").i32(self.address.port().into());
        match api {
            Api::Versions => {
                let all = VERSIONS
                    .iter()
                    .fold(Body::default().i16(0).u8(VERSIONS.len() as u8 + 1), |body, (api, version)| {
                        body.i16(*api as i16).i16(*version).i16(*version).u8(0)
                    });
                all.i32(0).u8(0)
            }
            // No controller: librdkafka would ask it for more than is understood here.
            Api::Metadata => host(Body::default().i32(1).i32(1)).i16(-1).i32(0).i32(1).append(&topic(1)),
            Api::FindCoordinator => host(Body::default().i16(0).i32(1)),
            Api::JoinGroup => {
                let member = Body::default().i16(0).i32(1).string("range").string("m").string("m");
                member.i32(1).string("m").bytes(&Body::default().i16(0).i32(1).string(TOPIC).i32(-1))
            }
            Api::SyncGroup => {
                let assignment = Body::default().i16(0).i32(1).string(TOPIC).i32(1).i32(0).i32(-1);
                Body::default().i16(0).bytes(&assignment)
            }
            Api::Heartbeat | Api::LeaveGroup => Body::default().i16(0),
            Api::OffsetFetch => partition(Body::default()).i64(-1).string("").i16(0),
            Api::OffsetCommit => partition(Body::default()).i16(0),
            Api::ListOffsets => partition(Body::default()).i16(0).i64(-1).i64(0),
            Api::Fetch => fetched(&[]),
            Api::Produce => Body::default(),
            Api::SaslHandshake => Body::default().i16(0).i32(1).string("SCRAM-SHA-256"),
            Api::SaslAuthenticate => Body::default().i16(0).i16(-1).i32(0),
        }
    }
}

/// An answer's frame.
fn frame(correlation: [u8; 4], body: &Body) -> Vec<u8> {
    let length = body.0.len() as i32 + 4;
    [&length.to_be_bytes()[..], &correlation, &body.0].concat()
}

/// The beginning of an answer about the topic's only partition.
fn partition(body: Body) -> Body {
    body.i32(1).string(TOPIC).i32(1).i32(0)
}

/// The topic in an answer to Metadata, which says that it has so many partitions; one is told.
pub(crate) fn topic(partitions: i32) -> Body {
    let one = Body::default().i16(0).i32(0).i32(1).i32(1).i32(1).i32(1).i32(1);
    Body::default().i16(0).string(TOPIC).u8(0).i32(partitions).append(&one)
}

/// An answer to Fetch that has these record batches.
pub(crate) fn fetched(batches: &[u8]) -> Body {
    let body = partition(Body::default().i32(0)).i16(0).i64(1 << 20).i64(1 << 20).i32(-1);
    body.bytes(&Body(batches.to_vec()))
}

/// What SCRAM's server says: at its first step of that, later that all is well.
fn sasl(request: &[u8], step: usize, first: impl FnOnce(&str) -> String) -> Body {
    let said = String::from_utf8_lossy(request);
    let nonce = said.rsplit_once(",r=").map_or("", |(_, nonce)| nonce);
    let text = if step == 1 { first(nonce) } else { "v=bm90aGluZw==".to_owned() };
    Body::default().i16(0).i16(-1).bytes(&Body(text.into_bytes()))
}
