//! Bytes of Kafka's protocol: bodies of answers, record batches, and what looks small and is not.

/// A body, written field by field.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body(pub(crate) Vec<u8>);

impl Body {
    pub(crate) fn append(mut self, other: &Body) -> Self {
        self.0.extend(&other.0);
        self
    }

    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn i16(mut self, value: i16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn i32(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn i64(mut self, value: i64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn string(mut self, text: &str) -> Self {
        self = self.i16(text.len() as i16);
        self.0.extend(text.as_bytes());
        self
    }

    pub(crate) fn bytes(self, bytes: &Body) -> Self {
        self.i32(bytes.0.len() as i32).append(bytes)
    }
}

/// How a batch says that its records are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub(crate) enum Codec {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

/// A record batch at offset 0 that says that it has so many records.
pub(crate) fn batch(codec: Codec, count: i32, records: &[u8]) -> Vec<u8> {
    let behind_crc = Body::default().i16(codec as i16).i32(count.saturating_sub(1)).i64(0).i64(0);
    let behind_crc = behind_crc.i64(-1).i16(-1).i32(-1).i32(count).append(&Body(records.to_vec()));
    let crc = crc32(0x82f6_3b78, &behind_crc.0);
    let length = behind_crc.0.len() as i32 + 9;
    let head = Body::default().i64(0).i32(length).i32(0).u8(2).i32(crc.cast_signed());
    head.append(&behind_crc).0
}

/// One record with this value.
pub(crate) fn record(value: &[u8]) -> Vec<u8> {
    let mut behind_length = vec![0, 0, 0, 1];
    varint(value.len() as i64, &mut behind_length);
    behind_length.extend(value);
    behind_length.push(0);
    let mut record = Vec::new();
    varint(behind_length.len() as i64, &mut record);
    record.extend(behind_length);
    record
}

fn varint(value: i64, out: &mut Vec<u8>) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// A checksum by its reversed polynomial.
fn crc32(polynomial: u32, bytes: &[u8]) -> u32 {
    let of_byte = |byte: u32| (0..8).fold(byte, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ polynomial } else { crc >> 1 });
    let table: Vec<u32> = (0..256).map(of_byte).collect();
    !bytes.iter().fold(!0, |crc, byte| table[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8))
}

/// So many zero bytes (in 258s) as gzip: 13 bits for each 258 of them.
pub(crate) fn gzip_bomb(bytes: usize) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let (mut bits, mut count) = (0_u64, 0);
    let mut put = |value: u64, length: u32, out: &mut Vec<u8>| {
        bits |= value << count;
        count += length;
        while count >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            count -= 8;
        }
    };
    // The last block, of fixed codes; a literal 0 (00110000).
    put(0b011, 3, &mut out);
    put(0b0000_1100, 8, &mut out);
    for _ in 0..bytes / 258 {
        // 258 bytes (11000101, no extra bits), from one byte back (00000).
        put(0b1010_0011, 8, &mut out);
        put(0, 5, &mut out);
    }
    // The end of the block; and so many bits that the last byte is whole.
    put(0, 7, &mut out);
    put(0, 7, &mut out);
    let length = bytes / 258 * 258 + 1;
    out.extend(crc32(0xedb8_8320, &vec![0; length]).to_le_bytes());
    out.extend((length as u32).to_le_bytes());
    out
}

/// So many zero bytes (in 128 KiB) as zstd: 4 bytes for each 128 KiB of them. Whether it tells its length at its head.
pub(crate) fn zstd_bomb(bytes: usize, tells: Tells) -> Vec<u8> {
    const BLOCK: usize = 128 * 1024;
    let blocks = bytes / BLOCK;
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd];
    match tells {
        // Eight bytes of length, one segment.
        Tells::Length => {
            out.push(0b1110_0000);
            out.extend((blocks as u64 * BLOCK as u64).to_le_bytes());
        }
        // A window of 128 KiB.
        Tells::Nothing => out.extend([0, 7 << 3]),
    }
    for block in 0..blocks {
        let last = u32::from(block + 1 == blocks);
        let head = (BLOCK as u32) << 3 | 1 << 1 | last;
        out.extend(&head.to_le_bytes()[..3]);
        out.push(0);
    }
    out
}

/// What a compressed block says of its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tells {
    Length,
    Nothing,
}

/// So many zero bytes as snappy: 3 bytes for each 64 of them.
pub(crate) fn snappy_bomb(bytes: usize) -> Vec<u8> {
    let copies = bytes / 64;
    let mut out = Vec::new();
    let mut length = copies * 64 + 1;
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    // One literal 0; then copies of 64 bytes from one byte back.
    out.extend([0, 0]);
    for _ in 0..copies {
        out.extend([63 << 2 | 2, 1, 0]);
    }
    out
}

/// So many zero bytes (about) as one LZ4 frame: one byte for each 255 of them.
pub(crate) fn lz4_bomb(bytes: usize) -> Vec<u8> {
    const BLOCK: usize = 4 * 1024 * 1024;
    // Version 1, independent blocks of 4 MiB, no checksums; the last byte is the head's, for these two.
    let mut out = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73];
    // One literal, then a match of 15 + 4 + 255 n bytes from one byte back, then the five literals that end a block.
    let runs = (BLOCK - 64) / 255;
    let mut block = vec![0x1f, 0, 1, 0];
    block.extend(std::iter::repeat_n(255, runs));
    block.extend([0, 0x50, 0, 0, 0, 0, 0]);
    for _ in 0..bytes / BLOCK {
        out.extend((block.len() as u32).to_le_bytes());
        out.extend(&block);
    }
    out.extend([0; 4]);
    out
}
