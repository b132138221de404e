//! The keys of which later records follow a dead letter, as a commit map carries them.
//!
//! A key stands there as a hash that means the same to every process, version and machine. Two keys that collide are
//! followed together: what follows by mistake is in the dead-letter topic, in its order, and says so; that a thousand
//! followed keys and a million others have such a pair has a chance of one in 18 · 10⁹.

use std::hash::Hasher;

use super::MapRefusal;
use super::head::{Bytes, put, put_signed, varint_len};
use crate::lanes::Order;

/// Bytes of a key.
const KEY: usize = 8;

/// What follows a dead letter: a key, or a whole partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FollowedKey(u64);

impl FollowedKey {
    /// The whole partition.
    pub const PARTITION: Self = Self(0);

    /// What a record with this key follows dead letters with; `None` where it is ordered behind nothing.
    pub fn of(order: Order, key: Option<&[u8]>) -> Option<Self> {
        match order {
            Order::Key => key.map(|key| Self(sip_hash(key).max(1))),
            Order::Partition => Some(Self::PARTITION),
            Order::None => None,
        }
    }
}

/// SipHash-2-4 under a key of zeros.
#[expect(deprecated, reason = "its successor names no algorithm; this one does, and maps outlive compilers")]
fn sip_hash(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::SipHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// A key whose later records follow a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Followed {
    /// The dead letter that was first.
    pub offset: i64,
    /// Which key.
    pub key: FollowedKey,
}

/// Those that fit `room`, the oldest letters first: how many, and their bytes with their number. No bytes for none.
pub(super) fn write(base: i64, followed: &[Followed], room: usize) -> (usize, Vec<u8>) {
    let (mut count, mut bytes) = (0, Vec::new());
    let mut last: Option<i64> = None;
    for Followed { offset, key } in followed {
        let before = bytes.len();
        match last {
            None => put_signed(&mut bytes, offset.wrapping_sub(base)),
            Some(last) if *offset >= last => put(&mut bytes, offset.wrapping_sub(last) as u64),
            Some(_) => continue,
        }
        bytes.extend(key.0.to_le_bytes());
        if bytes.len() + varint_len(count + 1) > room {
            bytes.truncate(before);
            break;
        }
        count += 1;
        last = Some(*offset);
    }
    let mut all = Vec::new();
    if count > 0 {
        put(&mut all, count);
        all.extend(bytes);
    }
    (count as usize, all)
}

pub(super) fn read(body: &mut Bytes<'_>, base: i64) -> Result<Vec<Followed>, MapRefusal> {
    let count = body.varint()?;
    // Each has a byte for its offset at least.
    if count == 0 || count > (body.rest().len() / (KEY + 1)) as u64 {
        return Err(MapRefusal::Malformed);
    }
    let mut followed: Vec<Followed> = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let offset = match followed.last() {
            None => base.wrapping_add(body.signed()?),
            Some(last) => last.offset.checked_add_unsigned(body.varint()?).ok_or(MapRefusal::Malformed)?,
        };
        followed.push(Followed { offset, key: FollowedKey(u64::from_le_bytes(body.array()?)) });
    }
    Ok(followed)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::{Limit, MapHead, MapRefusal, decode, encode, text};
    use super::*;

    /// Keys of offsets near each other, and of any.
    pub(in super::super) fn keys() -> impl Strategy<Value = Followed> {
        let offset = prop_oneof![4 => 0i64..100_000, 1 => any::<i64>()];
        (offset, any::<u64>()).prop_map(|(offset, key)| Followed { offset, key: FollowedKey(key) })
    }

    const HEAD: MapHead = MapHead { topic_id: None, base: 100, leader_epoch: None };

    fn followed(offset: i64, key: &str) -> Followed {
        Followed { offset, key: FollowedKey::of(Order::Key, Some(key.as_bytes())).unwrap() }
    }

    #[test]
    fn a_key_is_known_by_its_sip_hash() {
        #[expect(deprecated, reason = "as above")]
        let mut published = std::hash::SipHasher::new_with_keys(0x0706_0504_0302_0100, 0x0F0E_0D0C_0B0A_0908);
        published.write(&(0..15).collect::<Vec<u8>>());
        // The example of "SipHash: a fast short-input PRF", appendix A.
        assert_eq!(published.finish(), 0xA129_CA61_49BE_45E5);
        // What is in commits already is not to change.
        assert_eq!(FollowedKey::of(Order::Key, Some(b"")), Some(FollowedKey(0x1E92_4B9D_7377_00D7)));
        assert_eq!(FollowedKey::of(Order::Key, None), None);
        assert_eq!(FollowedKey::of(Order::Partition, None), Some(FollowedKey::PARTITION));
        assert_eq!(FollowedKey::of(Order::None, Some(b"a")), None);
    }

    /// Readers of the first version are to refuse it: to them nothing is finished above.
    #[test]
    fn a_map_with_followed_keys_is_of_version_2_and_of_no_other() {
        let followed = [followed(98, ""), followed(103, "b")];
        let map = encode(&HEAD, std::iter::once(105..110), &[], &followed, Limit::Bytes(200));
        assert_eq!((&map.text[..4], map.followed), ("ww2-", 2));
        assert_eq!(decode(&map.text, None, 100).unwrap().followed(), followed);
        assert_eq!(decode(&map.text.replacen('2', "1", 1), None, 100), Err(MapRefusal::Malformed));
        let (_, payload) = text::read(&map.text).unwrap();
        // Flags, base, no failing record, two keys: 2 below the base, and 5 above the first.
        let (first, last) = ([0x21, 0xC8, 0x01, 0, 2, 3], [0xD7, 0x00, 0x77, 0x73, 0x9D, 0x4B, 0x92, 0x1E, 5]);
        assert_eq!((&payload[4..10], &payload[10..19]), (&first[..], &last[..]));
        let without = encode(&HEAD, std::iter::once(105..110), &[], &[], Limit::Bytes(200)).text;
        assert!(without.starts_with("ww1-"), "{without}");
    }

    #[test]
    fn the_oldest_letters_go_first_and_before_all_else() {
        let all: Vec<_> = (0..2_000).map(|n| followed(n, &n.to_string())).collect();
        let map = encode(&HEAD, [105..110, 120..130], &[], &all, Limit::KAFKA);
        assert!(map.followed == 850 && map.cut && map.units <= 4096, "{} {}", map.followed, map.units);
        assert_eq!(decode(&map.text, None, 100).unwrap().followed(), &all[..map.followed]);
        let some = encode(&HEAD, [105..110, 120..130], &[], &all[..800], Limit::KAFKA);
        assert_eq!((some.followed, some.cut), (800, false));
        assert_eq!(encode(&HEAD, [], &[], &all[..800], Limit::KAFKA).units, 3_855);
    }

    #[test]
    fn one_key_alone_is_worth_a_map() {
        let map = encode(&HEAD, [], &[], &[followed(7, "a")], Limit::KAFKA);
        assert!((map.units, map.followed, map.cut) == (19, 1, false), "{map:?}");
        let none = encode(&HEAD, [], &[], &[followed(7, "a")], Limit::Utf16(18));
        assert_eq!((none.text.as_str(), none.followed, none.cut), ("", 0, false));
    }
}
