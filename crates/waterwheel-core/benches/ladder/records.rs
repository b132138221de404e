//! Batches as a driver holds them: one buffer behind a reference count, and an index into it.

use std::sync::Arc;

use waterwheel_core::Records;

/// Records of a batch.
pub(crate) const BATCH: usize = 1_000;

/// Bytes of a value.
const VALUE: usize = 100;

struct Entry {
    start: u32,
    key_len: u32,
    value_len: u32,
}

struct Buffer {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
}

/// A batch. Many of them share one buffer, and lie at different offsets.
#[derive(Clone)]
pub(crate) struct Batch {
    buffer: Arc<Buffer>,
    base: i64,
}

/// One buffer after another, in a circle, of [`BATCH`] records each, which have `keys` keys in turn.
pub(crate) struct Supply {
    buffers: Vec<Arc<Buffer>>,
    next: usize,
}

impl Supply {
    pub(crate) fn of_keys(keys: usize) -> Self {
        let buffers = (0..keys.max(BATCH)).collect::<Vec<_>>();
        let buffers = buffers.chunks(BATCH).map(|numbers| Arc::new(buffer(numbers.iter().map(|n| n % keys))));
        Self { buffers: buffers.collect(), next: 0 }
    }

    /// The next buffer as a batch whose first offset is `base`.
    pub(crate) fn batch(&mut self, base: i64) -> Batch {
        let buffer = self.buffers[self.next].clone();
        self.next = (self.next + 1) % self.buffers.len();
        Batch { buffer, base }
    }
}

fn buffer(keys: impl Iterator<Item = usize>) -> Buffer {
    let mut buffer = Buffer { entries: Vec::new(), bytes: Vec::new() };
    for key in keys {
        let key = format!("key-{key:07}");
        buffer.entries.push(Entry {
            start: buffer.bytes.len() as u32,
            key_len: key.len() as u32,
            value_len: VALUE as u32,
        });
        buffer.bytes.extend_from_slice(key.as_bytes());
        buffer.bytes.extend_from_slice(&[b'v'; VALUE]);
    }
    buffer
}

impl Records for Batch {
    fn len(&self) -> usize {
        self.buffer.entries.len()
    }

    fn offset(&self, index: usize) -> i64 {
        self.base + index as i64
    }

    fn key(&self, index: usize) -> Option<&[u8]> {
        let e = &self.buffer.entries[index];
        Some(&self.buffer.bytes[e.start as usize..][..e.key_len as usize])
    }

    fn time_ms(&self, _index: usize) -> Option<i64> {
        None
    }

    fn size(&self, index: usize) -> usize {
        let e = &self.buffer.entries[index];
        (e.key_len + e.value_len) as usize
    }

    fn pinned_bytes(&self) -> usize {
        self.buffer.bytes.capacity()
    }

    fn detach(&self, index: usize) -> Self {
        let e = &self.buffer.entries[index];
        let bytes = self.buffer.bytes[e.start as usize..][..(e.key_len + e.value_len) as usize].to_vec();
        let entries = vec![Entry { start: 0, ..*e }];
        Self { buffer: Arc::new(Buffer { entries, bytes }), base: self.offset(index) }
    }
}
