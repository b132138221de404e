#![expect(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]

use std::num::NonZeroU128;
use std::ops::Range;

use proptest::prelude::*;

use super::codings::Coding;
use super::head::{crc64, put};
use super::text::{self, Form};
use super::{CommitMap, Encoded, Failing, Followed, Limit, MAX_FAILING, MapHead, MapRefusal, decode, encode, sealed};

const TOPIC: Option<NonZeroU128> = NonZeroU128::new(0x0123_4567_89AB_CDEF_0011_2233_4455_6677);
const OTHER: Option<NonZeroU128> = NonZeroU128::new(8);

fn head(base: i64) -> MapHead {
    MapHead { topic_id: TOPIC, base, leader_epoch: Some(12) }
}

fn written(base: i64, finished: &[Range<i64>], failing: &[Failing], limit: Limit) -> Encoded {
    mapped(base, finished, failing, &[], limit)
}

fn mapped(base: i64, finished: &[Range<i64>], failing: &[Failing], followed: &[Followed], limit: Limit) -> Encoded {
    encode(&head(base), finished.iter().cloned(), failing, followed, limit)
}

fn finished(map: &CommitMap) -> Vec<Range<i64>> {
    map.finished().collect()
}

/// A random half of `window` offsets above `base`, the same each time.
fn random_half(base: i64, window: i64) -> Vec<Range<i64>> {
    random_part(base, window, 500)
}

/// So many of a thousand.
fn random_part(base: i64, window: i64, thousandths: u64) -> Vec<Range<i64>> {
    let mut random = 0x2545_F491_4F6C_DD1Du64;
    let mut ranges: Vec<Range<i64>> = Vec::new();
    for offset in base + 1..=base + window {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        if (random >> 20) % 1000 >= thousandths {
            continue;
        }
        match ranges.last_mut() {
            Some(last) if last.end == offset => last.end += 1,
            _ => ranges.push(offset..offset + 1),
        }
    }
    ranges
}

/// What of `ranges` lies below `reach`.
fn below(ranges: &[Range<i64>], reach: i64) -> Vec<Range<i64>> {
    ranges.iter().filter(|r| r.start < reach).map(|r| r.start..r.end.min(reach)).collect()
}

fn bases() -> impl Strategy<Value = i64> {
    prop_oneof![0i64..100, 0i64..1 << 40, Just(i64::MAX), Just(i64::MAX - 1), Just(i64::MIN), any::<i64>()]
}

/// Gaps and lengths of many kinds: dense, sparse, long runs, up to the ends of what an offset can be.
fn run_sizes() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let tiny = prop::collection::vec((1u64..4, 1u64..4), 0..3000);
    let sparse = prop::collection::vec((1u64..5000, 1u64..3), 0..1500);
    let runs = prop::collection::vec((1u64..3, 1u64..100_000), 0..1500);
    let size = || prop_oneof![1u64..10, 1u64..1 << 33, (0u32..64).prop_map(|bit| 1 << bit), Just(u64::MAX)];
    let wild = prop::collection::vec((size(), size()), 0..40);
    prop_oneof![tiny, sparse, runs, wild]
}

fn ranges_above(base: i64, sizes: &[(u64, u64)]) -> Vec<Range<i64>> {
    let mut at = base;
    let place = |(gap, len): &(u64, u64)| {
        let start = at.checked_add_unsigned(*gap)?;
        at = start.checked_add_unsigned(*len)?;
        Some(start..at)
    };
    sizes.iter().map_while(place).collect()
}

fn failing_records(base: i64, max: usize) -> impl Strategy<Value = Vec<Failing>> {
    let near = (0u64..50, 0u32..9, 1_700_000_000_000i64..1_800_000_000_000, 0i64..100_000);
    let near = near.prop_map(|(gap, attempts, first, wait)| (gap, attempts, first, first + wait));
    let wild = (any::<u64>(), any::<u32>(), any::<i64>(), any::<i64>());
    prop::collection::vec(prop_oneof![4 => near, 1 => wild], 0..max).prop_map(move |records| {
        let mut lowest = Some(base);
        let place = |(gap, attempts, first_failed_ms, next_try_ms): (u64, u32, i64, i64)| {
            let offset = lowest?.checked_add_unsigned(gap)?;
            lowest = offset.checked_add(1);
            Some(Failing { offset, attempts, first_failed_ms, next_try_ms })
        };
        records.into_iter().map_while(place).collect()
    })
}

type Map = (i64, Vec<Range<i64>>, Vec<Failing>, Vec<Followed>);

fn maps() -> impl Strategy<Value = Map> {
    let followed = prop_oneof![Just(0usize), 0usize..20, 0usize..1200];
    let followed = followed.prop_flat_map(|most| prop::collection::vec(super::followed::tests::keys(), 0..=most));
    (bases(), run_sizes(), followed).prop_flat_map(|(base, sizes, mut followed)| {
        let ranges = ranges_above(base, &sizes);
        followed.sort();
        failing_records(base, 70).prop_map(move |failing| (base, ranges.clone(), failing, followed.clone()))
    })
}

fn limits() -> impl Strategy<Value = Limit> {
    let size = || prop_oneof![0usize..80, 0usize..5000, 0usize..200_000];
    prop_oneof![
        size().prop_map(Limit::Utf16),
        size().prop_map(Limit::Bytes),
        Just(Limit::KAFKA),
        Just(Limit::Utf16(usize::MAX))
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn what_is_read_is_what_was_written_up_to_the_cut((base, ranges, failing, followed) in maps(), limit in limits()) {
        let map = mapped(base, &ranges, &failing, &followed, limit);
        let (size, most) = match limit {
            Limit::Utf16(most) => (map.text.encode_utf16().count(), most),
            Limit::Bytes(most) => (map.text.len(), most),
        };
        prop_assert!(size <= most, "{} of {}", size, most);
        prop_assert_eq!(size, map.units);
        let covered = below(&ranges, map.reach);
        prop_assert_eq!(map.cut, covered != ranges || map.failing < failing.len());
        if map.text.is_empty() {
            prop_assert!(covered.is_empty() && map.failing == 0 && map.followed == 0);
            return Ok(());
        }
        let read = decode(&map.text, TOPIC, base).unwrap();
        prop_assert_eq!(finished(&read), covered);
        prop_assert_eq!(read.failing(), &failing[..map.failing]);
        prop_assert_eq!(read.followed(), &followed[..map.followed]);
        prop_assert_eq!(read.leader_epoch(), Some(12));
    }

    #[test]
    fn nothing_is_cut_that_fits((base, ranges, failing, followed) in maps()) {
        let map = mapped(base, &ranges, &failing, &followed, Limit::Utf16(usize::MAX));
        prop_assert_eq!(map.reach, i64::MAX);
        prop_assert_eq!(map.failing, failing.len().min(MAX_FAILING));
        prop_assert_eq!(map.followed, followed.len());
        let again = mapped(base, &ranges, &failing, &followed, Limit::Utf16(map.units));
        prop_assert_eq!(&again.text, &map.text);
        if map.units > 0 {
            let less = mapped(base, &ranges, &failing, &followed, Limit::Utf16(map.units - 1));
            prop_assert!((less.cut || less.followed < map.followed) && less.units < map.units);
        }
    }

    #[test]
    fn a_changed_map_marks_nothing(
        (base, ranges, failing, followed) in maps(), ascii in any::<bool>(), at in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(), c in any::<char>(), how in 0..6,
    ) {
        let limit = if ascii { Limit::Bytes(4096) } else { Limit::KAFKA };
        let text = mapped(base, &ranges, &failing, &followed, limit).text;
        if text.is_empty() {
            return Ok(()); // nothing to say
        }
        let mut chars: Vec<char> = text.chars().collect();
        let (at, to) = (at.index(chars.len()), to.index(chars.len()));
        match how {
            0 => chars[at] = c,
            1 => chars[at] = chars[to], // stays within the alphabet
            2 => chars.swap(at, to),
            3 => chars.truncate(at),
            4 => chars.insert(at, chars[to]),
            _ => { chars.remove(at); }
        }
        let changed: String = chars.iter().collect();
        prop_assert!(changed == text || decode(&changed, TOPIC, base).is_err());
    }

    #[test]
    fn a_map_for_another_base_or_topic_marks_nothing((base, ranges, failing, followed) in maps(), other in bases()) {
        let text = mapped(base, &ranges, &failing, &followed, Limit::KAFKA).text;
        if text.is_empty() {
            return Ok(()); // nothing to say
        }
        prop_assert_eq!(decode(&text, OTHER, base), Err(MapRefusal::OtherTopic));
        if other != base {
            prop_assert_eq!(decode(&text, TOPIC, other), Err(MapRefusal::OtherBase { written: base }));
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>(), base in bases(), prefix in "(ww)?[12]?[~-]?") {
        prop_assert!(decode(&text, TOPIC, base).is_err());
        prop_assert!(decode(&(prefix + &text), TOPIC, base).is_err());
    }

    /// The check sum fits and the bytes are anything: what is read lies above the base, ascends, and is as long as it was.
    #[test]
    fn no_payload_makes_the_reader_panic_or_disagree_with_itself(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0xFF)], 0..200),
        coding in prop_oneof![0u8..6, 0x20u8..0x26], failing in prop_oneof![9 => Just(0u8), 1 => any::<u8>()], base in bases(),
    ) {
        let mut body = vec![coding];
        put(&mut body, ((base << 1) ^ (base >> 63)) as u64);
        body.push(failing);
        body.extend(bytes);
        for limit in [Limit::Utf16(0), Limit::Bytes(0)] {
            let text = sealed(limit, &body);
            let Ok(map) = decode(&text, TOPIC, base) else { continue };
            prop_assert!(map.payload.capacity() <= text.len() && map.followed.capacity() <= text.len() / 9);
            let mut at = base;
            for range in map.finished() {
                prop_assert!(range.start > at && range.end > range.start);
                at = range.end;
            }
        }
    }

    #[test]
    fn ranges_out_of_order_are_written_as_a_subset(
        base in 0i64..50, ranges in prop::collection::vec((0i64..200, 0i64..200), 0..8),
    ) {
        let ranges: Vec<_> = ranges.into_iter().map(|(start, end)| start..end).collect();
        let text = written(base, &ranges, &[], Limit::KAFKA).text;
        for offset in decode(&text, TOPIC, base).iter().flat_map(|map| map.finished()).flatten() {
            prop_assert!(offset > base && ranges.iter().any(|range| range.contains(&offset)), "{}", offset);
        }
    }
}

/// A text around `body` with the right length and check sum.
fn record(offset: i64) -> Failing {
    let first_failed_ms = 1_790_000_000_000 + offset * 37;
    Failing { offset, attempts: 3, first_failed_ms, next_try_ms: first_failed_ms + 60_000 }
}

#[test]
fn metadata_that_is_no_map_of_ours_is_refused() {
    let ok = written(100, &[105..110], &[record(100)], Limit::KAFKA).text;
    let ascii = written(100, &[105..110], &[record(100)], Limit::Bytes(4096)).text;
    let malformed = |body: &[u8]| sealed(Limit::Bytes(0), body);
    let table: &[(&str, String, MapRefusal)] = &[
        ("empty", String::new(), MapRefusal::Empty),
        ("foreign", "consumer-1@host".into(), MapRefusal::Foreign),
        ("foreign, like parallel-consumer's", "UExaAAA=".into(), MapRefusal::Foreign),
        ("NUL", "\0".into(), MapRefusal::Foreign),
        ("the magic alone", "ww".into(), MapRefusal::Foreign),
        ("a word with our magic", "wwan-7".into(), MapRefusal::Foreign),
        ("version 3", ok.replacen('1', "3", 1), MapRefusal::Version('3')),
        ("version 2 of a map without followed keys", ok.replacen('1', "2", 1), MapRefusal::Malformed),
        ("another form", ok.replacen('~', "=", 1), MapRefusal::Foreign),
        ("no payload", "ww1~".into(), MapRefusal::Length),
        ("three bytes", "ww1-AAAA".into(), MapRefusal::Length),
        ("cut base64", ascii[..ascii.len() - 1].into(), MapRefusal::Length),
        ("cut base64 to half", ascii[..ascii.len() / 2].into(), MapRefusal::Length),
        ("cut", ok.chars().take(12).collect(), MapRefusal::Length),
        ("bits past the end", ok.clone() + "\u{3400}", MapRefusal::Length),
        ("text past the end", ok.clone() + " ", MapRefusal::Alphabet),
        ("text before", " ".to_owned() + &ok, MapRefusal::Foreign),
        ("twice", ok.clone() + &ok, MapRefusal::Alphabet),
        ("padded base64", ascii.clone() + "=", MapRefusal::Alphabet),
        ("a surrogate pair", ok.clone() + "\u{1F980}", MapRefusal::Alphabet),
        ("an empty body", malformed(&[]), MapRefusal::Malformed),
        ("an unknown flag", malformed(&[0x40, 200, 1, 0]), MapRefusal::Malformed),
        ("an unknown coding", malformed(&[5, 200, 1, 0]), MapRefusal::Malformed),
        ("a topic id of zero", malformed(&[&[8][..], &[0; 16], &[200, 1, 0]].concat()), MapRefusal::Malformed),
        ("no followed keys, and said to be there", malformed(&[0x20, 200, 1, 0, 0]), MapRefusal::Malformed),
        ("followed keys that are not there", malformed(&[0x20, 200, 1, 0, 2, 0, 1, 1, 1, 1]), MapRefusal::Malformed),
        ("65 failing", malformed(&[0, 200, 1, 65]), MapRefusal::Malformed),
        ("failing records that are not there", malformed(&[0, 200, 1, 2, 0, 0, 0, 0]), MapRefusal::Malformed),
        ("no coding and bytes", malformed(&[0, 200, 1, 0, 0]), MapRefusal::Malformed),
        ("half a pair of varints", malformed(&[2, 200, 1, 0, 1]), MapRefusal::Malformed),
        (
            "a varint of 11 bytes",
            malformed(&[&[2, 200, 1, 0][..], &[0x80; 10], &[1, 1]].concat()),
            MapRefusal::Malformed,
        ),
        ("a gap past i64", malformed(&[&[2, 200, 1, 0][..], &[0xFF; 9], &[1, 1]].concat()), MapRefusal::Malformed),
        ("a bitmap with an empty last byte", malformed(&[1, 200, 1, 0, 0, 1, 0]), MapRefusal::Malformed),
        ("Rice codes of 64 low bits", malformed(&[3, 200, 1, 0, 64, 0, 1, 0xFF]), MapRefusal::Malformed),
        ("Rice codes that are not there", malformed(&[3, 200, 1, 0, 0, 0, 9, 0xFF]), MapRefusal::Malformed),
        ("gamma codes that are not there", malformed(&[4, 200, 1, 0, 5, 0xFF]), MapRefusal::Malformed),
        (
            "a gamma code of 64 zeros",
            malformed(&[&[4, 200, 1, 0, 1][..], &[0; 8], &[0xFF]].concat()),
            MapRefusal::Malformed,
        ),
    ];
    for (what, text, refusal) in table {
        assert_eq!(decode(text, TOPIC, 100).as_ref(), Err(refusal), "{what}");
    }
    assert_eq!(decode(&ok, TOPIC, 101), Err(MapRefusal::OtherBase { written: 100 }));
    assert_eq!(decode(&ok, OTHER, 100), Err(MapRefusal::OtherTopic));
    let flipped = ok.chars().map(|c| if c == ok.chars().nth(9).unwrap() { '\u{3400}' } else { c }).collect::<String>();
    assert_eq!(decode(&flipped, TOPIC, 100), Err(MapRefusal::Checksum));
    assert_eq!(finished(&decode(&ok, TOPIC, 100).unwrap()), [105..110]);
    assert_eq!(finished(&decode(&ascii, TOPIC, 100).unwrap()), [105..110]);
}

#[test]
fn a_topic_id_unknown_to_writer_or_reader_is_no_refusal() {
    let nameless = MapHead { topic_id: None, base: 3, leader_epoch: None };
    let text = encode(&nameless, [5..6], &[], &[], Limit::KAFKA).text;
    let map = decode(&text, TOPIC, 3).unwrap();
    assert_eq!((finished(&map), map.leader_epoch()), (vec![5..6], None));
    assert!(decode(&written(3, &[5..6], &[], Limit::KAFKA).text, None, 3).is_ok());
}

#[test]
fn the_bytes_are_as_the_documentation_says() {
    let head = MapHead { topic_id: None, base: 100, leader_epoch: Some(7) };
    let failing = [Failing { offset: 100, attempts: 3, first_failed_ms: 1000, next_try_ms: 3000 }];
    let text = encode(&head, [105..110, 111..112], &failing, &[], Limit::Bytes(200)).text;
    let (version, payload) = text::read(&text).unwrap();
    assert_eq!(version, '1');
    // Length, flags, base, leader epoch, one failing record, and a bitmap from 105 on: five ones, a zero, a one.
    let content = [25, 0, 0, 0, 0x11, 0xC8, 0x01, 14, 1, 0, 3, 0xD0, 0x0F, 0xA0, 0x1F, 4, 0b0101_1111];
    assert_eq!(payload[..17], content);
    assert_eq!(payload[17..], crc64(&content).to_le_bytes());
    assert_eq!(text, "ww1-ZAAAAEByB4QAAMA0PA6HE81ZbZlzVa37RB");
    assert_eq!(
        encode(&head, [105..110, 111..112], &failing, &[], Limit::KAFKA).text,
        "ww1~㐙㐀呄뀎㐐㑠㟴䏐錄櫎浙梮勷㐊"
    );
}

#[test]
fn each_coding_is_the_smallest_somewhere() {
    let coding = |ranges: &[Range<i64>]| decode(&written(0, ranges, &[], Limit::KAFKA).text, TOPIC, 0).unwrap().coding;
    assert_eq!(coding(&random_half(0, 10_000)), Some(Coding::Bitmap));
    assert_eq!(coding(&[1..1_000_000, 1_000_100..1_000_200]), Some(Coding::Varints));
    let alike: Vec<_> = (1..500i64).map(|n| n * 1000 + n % 7..n * 1000 + 500).collect();
    assert_eq!(coding(&alike), Some(Coding::Rice));
    let unlike: Vec<(u64, u64)> = (1..600).map(|n| if n % 20 == 0 { (50_000, 9000) } else { (1 + n % 3, 1) }).collect();
    let unlike = ranges_above(0, &unlike);
    assert_eq!(coding(&unlike), Some(Coding::Gamma));
    assert_eq!(written(0, &[], &[], Limit::KAFKA).text, "");
}

#[test]
fn a_random_half_of_60_000_offsets_above_a_stuck_record_fits_4_096_characters() {
    let base = 9_007_199_254_740_993;
    let ranges = random_half(base, 60_000);
    assert!(ranges.len() > 14_000);
    let map = written(base, &ranges, &[record(base)], Limit::KAFKA);
    assert_eq!((map.cut, map.failing), (false, 1));
    assert!(map.units <= 4096 && map.text.encode_utf16().count() == map.units, "{}", map.units);
    assert_eq!(finished(&decode(&map.text, TOPIC, base).unwrap()), ranges);
}

#[test]
fn fifty_thousand_finished_above_a_stuck_record_fit_a_line() {
    let map = written(70, &[71..50_071], &[record(70)], Limit::KAFKA);
    assert!(!map.cut && map.units < 40, "{}", map.units);
}

#[test]
fn a_map_that_does_not_fit_is_cut_from_the_top() {
    let ranges = random_half(0, 200_000);
    let map = written(0, &ranges, &[], Limit::KAFKA);
    assert!(map.cut && map.reach > 60_000 && map.units > 4090, "{} {}", map.reach, map.units);
    assert_eq!(finished(&decode(&map.text, TOPIC, 0).unwrap()), below(&ranges, map.reach));
    let half = written(0, &ranges, &[], Limit::KAFKA.halved());
    assert!(half.units <= 2048 && half.reach > 29_000 && half.reach < map.reach);
}

#[test]
fn failing_records_go_before_finished_offsets_and_the_lowest_first() {
    let failing: Vec<_> = (0..80).map(|n| record(n * 3)).collect();
    let ranges = random_half(240, 200_000);
    let map = written(0, &ranges, &failing, Limit::KAFKA);
    assert_eq!((map.failing, map.cut), (MAX_FAILING, true));
    assert_eq!(decode(&map.text, TOPIC, 0).unwrap().failing(), &failing[..MAX_FAILING]);
    let small = written(0, &ranges, &failing, Limit::Utf16(100));
    assert!(small.failing > 5 && small.failing < MAX_FAILING, "{}", small.failing);
    assert_eq!(decode(&small.text, TOPIC, 0).unwrap().failing(), &failing[..small.failing]);
}

#[test]
fn no_room_means_no_text() {
    for units in 0..23 {
        let map = written(0, &[1..2], &[record(0)], Limit::Utf16(units));
        assert_eq!((map.text.as_str(), map.units, map.failing, map.reach, map.cut), ("", 0, 0, 1, true), "{units}");
    }
}

#[test]
fn every_symbol_is_one_unit_and_has_a_character_of_its_own() {
    let mut payload: Vec<u8> = Vec::new();
    let (mut held, mut count) = (0u32, 0);
    for symbol in 0..1u32 << 15 {
        held |= symbol << count;
        count += 15;
        while count >= 8 {
            payload.push(held as u8);
            held >>= 8;
            count -= 8;
        }
    }
    let text = text::write(Form::Wide, '1', &payload);
    let symbols: std::collections::BTreeSet<char> = text.chars().skip(4).collect();
    assert_eq!((symbols.len(), text.encode_utf16().count()), (1 << 15, 4 + (1 << 15)));
    assert!(symbols.iter().all(|c| ('\u{3400}'..='\u{9FFF}').contains(c) || ('\u{AC00}'..='\u{BFFF}').contains(c)));
}

#[test]
fn the_check_sum_is_crc_64_xz() {
    assert_eq!(crc64(b"123456789"), 0x995D_C9BB_DF19_39FA);
}

/// `cargo test --release -p waterwheel-core commit_map -- --ignored --nocapture` prints what a map costs.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn cost_of_a_map() {
    let ranges = random_half(0, 60_000);
    let ledger = crate::ledger::Ledger::new(0, ranges.iter().cloned());
    let mut text = String::new();
    let time = |what: &str, f: &mut dyn FnMut()| {
        let start = std::time::Instant::now();
        (0..200).for_each(|_| f());
        println!("{what}: {:?}", start.elapsed() / 200);
    };
    time("encode a random half of 60,000, from ranges", &mut || {
        text = written(0, &ranges, &[record(0)], Limit::KAFKA).text;
    });
    time("the same, from a ledger", &mut || {
        text = encode(&head(0), ledger.finished_above(), &[record(0)], &[], Limit::KAFKA).text;
    });
    time("decode it", &mut || {
        assert!(decode(&text, TOPIC, 0).is_ok());
    });
    time("decode it into a ledger", &mut || {
        let map = decode(&text, TOPIC, 0).unwrap();
        assert_eq!(crate::ledger::Ledger::new(0, map.finished()).frontier(), 0);
    });
    let million = random_half(0, 1_000_000);
    time("encode a random half of 1,000,000, cut", &mut || {
        written(0, &million, &[], Limit::KAFKA);
    });
    println!("{} units", text.encode_utf16().count());
    for (window, thousandths) in [(60_000, 1), (60_000, 100), (60_000, 900), (60_000, 999), (200_000, 950), (1000, 500)]
    {
        let map = written(9_000_000_000, &random_part(9_000_000_000, window, thousandths), &[], Limit::KAFKA);
        println!("{thousandths} of 1,000 finished in {window}: {} units, reach {}", map.units, map.reach);
    }
    let failing: Vec<_> = (0..64).map(|n| record(n * 9)).collect();
    println!("64 failing: {} units", written(0, &[], &failing, Limit::KAFKA).units);
    println!("a half in bytes: reach {}", written(0, &ranges, &[], Limit::Bytes(4096)).reach);
}
