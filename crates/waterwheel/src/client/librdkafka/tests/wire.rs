//! Record batches made byte by byte, of kinds that no producer writes, for the mock cluster (a broker refuses them).

use std::io::{Read, Write};
use std::net::TcpStream;

use super::Kafka;

/// Transaction markers and the like: nothing that a reader sees.
pub(super) const CONTROL: i16 = 0x30;
pub(super) const PLAIN: i16 = 0;

/// A batch at `offset` with records of these keys and values, each shorter than 64 bytes.
pub(super) fn batch(offset: i64, attributes: i16, records: &[(&[u8], &[u8])]) -> Vec<u8> {
    let last = records.len() as i32 - 1;
    let mut body = attributes.to_be_bytes().to_vec();
    body.extend(last.to_be_bytes());
    // Times; no producer's id, epoch and sequence; how many records.
    body.extend([0; 16]);
    body.extend([0xff; 14]);
    body.extend((last + 1).to_be_bytes());
    for (n, (key, value)) in records.iter().enumerate() {
        // A length is one byte as long as it is small: twice the number.
        let length = |n: usize| u8::try_from(2 * n).unwrap();
        let mut record = vec![0, 0, length(n), length(key.len())];
        record.extend(*key);
        record.push(length(value.len()));
        record.extend(*value);
        record.push(0);
        body.push(length(record.len()));
        body.extend(record);
    }
    let mut batch = offset.to_be_bytes().to_vec();
    batch.extend((body.len() as i32 + 9).to_be_bytes());
    batch.extend([0, 0, 0, 0, 2]);
    batch.extend(crc32c(&body).to_be_bytes());
    batch.extend(body);
    batch
}

fn crc32c(bytes: &[u8]) -> u32 {
    let shift = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}

/// Appends to partition 0 of a mock cluster's topic. The mock counts the records of the first batch only.
pub(super) fn append(kafka: &Kafka, topic: &str, batches: &[u8]) {
    let mut request = vec![0, 0, 0, 7, 0, 0, 0, 1, 0xff, 0xff];
    // No transaction, the leader's answer, a second, one topic.
    request.extend([0xff, 0xff, 0, 1, 0, 0, 0x03, 0xe8, 0, 0, 0, 1]);
    request.extend((topic.len() as u16).to_be_bytes());
    request.extend(topic.as_bytes());
    request.extend([0, 0, 0, 1, 0, 0, 0, 0]);
    request.extend((batches.len() as u32).to_be_bytes());
    request.extend(batches);
    let mut broker = TcpStream::connect(&kafka.bootstrap).unwrap();
    broker.write_all(&(request.len() as u32).to_be_bytes()).unwrap();
    broker.write_all(&request).unwrap();
    let mut size = [0; 4];
    broker.read_exact(&mut size).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(size) as usize];
    broker.read_exact(&mut answer).unwrap();
    // Behind the request's number, one topic's name and one partition's number.
    let error = 4 + 4 + 2 + topic.len() + 4 + 4;
    assert_eq!(answer[error..error + 2], [0, 0], "{answer:?}");
}
