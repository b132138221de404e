use proptest::prelude::*;
use waterwheel_core::{Epoch, PartitionId};

use super::*;
use crate::record::{Assignment, Batch, BatchBuilder, TopicPartition};

type Written<'a> = (i64, Option<&'a [u8]>, Option<&'a [u8]>);

fn batch(partition: i32, records: &[Written<'_>]) -> Batch {
    let mut builder = BatchBuilder::with_capacity(16, 64);
    records.iter().for_each(|(offset, key, value)| builder.push(*offset, None, *key, *value));
    let assignment = Assignment::new(PartitionId(0), Epoch(1), TopicPartition::new("t", partition));
    builder.build(assignment, None)
}

fn apply(table: &Table, partition: i32, records: &[Written<'_>]) {
    let batch = batch(partition, records);
    (0..batch.len() as u32).for_each(|at| table.apply(&batch.record(at)));
}

#[test]
fn the_last_value_of_a_key_counts_and_a_tombstone_removes_it() {
    let table = Table::new();
    apply(&table, 3, &[(0, Some(b"a"), Some(b"1")), (1, Some(b"b"), Some(b"2")), (900, Some(b"a"), Some(b""))]);
    let a = table.get("a").unwrap();
    assert_eq!((a.key(), a.value(), a.partition(), a.offset()), (&b"a"[..], &b""[..], 3, 900), "empty is a value");
    apply(&table, 3, &[(901, Some(b"b"), None), (902, Some(b"never there"), None), (903, None, Some(b"x"))]);
    assert_eq!((table.len(), table.contains("b"), table.keyless()), (1, false, 1));
    apply(&table, 3, &[(904, Some(b""), Some(b"of the empty key"))]);
    assert_eq!(table.get("").unwrap().value(), b"of the empty key");
    assert_eq!(format!("{table:?} {:?}", table.get("a").unwrap()), "Table(2 keys) TableEntry(3@900)");
}

#[tokio::test]
async fn whoever_watches_is_told_and_whoever_is_slow_is_told_how_much_was_missed() {
    let table = Table::new();
    let (mut changes, mut watch) = (table.changes(), table.watch(*b"a"));
    apply(&table, 0, &[(0, Some(b"b"), Some(b"1")), (1, Some(b"a"), Some(b"2")), (2, Some(b"a"), None)]);
    watch.changed().await;
    assert!(watch.get().is_none(), "told as one");
    let mut told = Vec::new();
    for _ in 0..3 {
        let change = changes.next().await.unwrap().unwrap();
        told.push((change.key().to_vec(), change.value().map(<[u8]>::to_vec)));
    }
    let of = |key: &[u8], value: Option<&[u8]>| (key.to_vec(), value.map(<[u8]>::to_vec));
    assert_eq!(told, [of(b"b", Some(b"1")), of(b"a", Some(b"2")), of(b"a", None)]);
    let many: Vec<Written<'_>> = (0..CHANGES as i64 + 5).map(|n| (n, Some(&b"c"[..]), Some(&b"v"[..]))).collect();
    apply(&table, 0, &many);
    assert_eq!(changes.next().await.unwrap().unwrap_err(), MissedChanges(5));
    assert!(futures_util::FutureExt::now_or_never(watch.changed()).is_none(), "of its key only");
    let second = table.watch(*b"a");
    drop(watch);
    assert_eq!(table.0.watchers.load(Ordering::SeqCst), 1);
    drop(second);
    assert_eq!(table.0.watchers.load(Ordering::SeqCst), 0, "nothing is left of those who are gone");
}

/// What is promised of the memory of a key, for keys and values of several sizes; while it grows, too.
#[test]
fn a_key_takes_no_more_memory_than_is_promised() {
    // Just more than fit before the tables grow: the worst.
    const KEYS: i64 = 122_000;
    for (key_len, value_len) in [(8, 0), (8, 16), (16, 84), (16, 1_000)] {
        let payload = (key_len + value_len) as f64;
        let batches: Vec<Batch> = (0..KEYS / 1_000)
            .map(|at| {
                let mut builder = BatchBuilder::with_capacity(1_000, 1_000 * (key_len + value_len));
                for n in 1_000 * at..1_000 * (at + 1) {
                    builder.push(n, None, Some(format!("{n:0key_len$}").as_bytes()), Some(&vec![7; value_len]));
                }
                let assignment = Assignment::new(PartitionId(0), Epoch(1), TopicPartition::new("t", 0));
                builder.build(assignment, None)
            })
            .collect();
        let mut table = None;
        let measured = allocation_counter::measure(|| {
            let fresh = Table::new();
            for batch in &batches {
                (0..batch.len() as u32).for_each(|at| fresh.apply(&batch.record(at)));
            }
            table = Some(fresh);
        });
        assert_eq!(table.map(|table| table.len() as i64), Some(KEYS));
        // The system's allocator keeps 8 bytes beside an allocation, and rounds up to 16.
        let (kept, most) = (measured.bytes_current as f64 / KEYS as f64, measured.bytes_max as f64 / KEYS as f64);
        println!("{key_len} + {value_len} bytes: {kept:.1} a key, {most:.1} at most");
        assert!(most + 24.0 <= 1.5 * payload + 64.0, "{payload} bytes: {kept} kept, {most} at most");
    }
}

proptest! {
    /// Hashes that collide, stand at both ends, and are given up again: it stays what a map would be.
    #[test]
    fn an_index_finds_what_was_put_and_nothing_that_was_removed(
        steps in prop::collection::vec((any::<bool>(), 0u8..40, prop::sample::select(vec![0, 1, 2, u32::MAX, 1 << 31])), 0..400)
    ) {
        let (mut index, mut model) = (Index::default(), std::collections::BTreeMap::new());
        for (at, (puts, key, hash)) in (0_i64..).zip(&steps) {
            // A key has one hash.
            let (key, hash) = ([*key, *hash as u8], *hash);
            let batch = batch(0, &[(at, Some(&key), Some(b"v"))]);
            if *puts {
                index.put(hash, TableEntry::of(&batch.record(0)).unwrap());
                model.insert((hash, key), at);
            } else {
                index.remove(hash, &key);
                model.remove(&(hash, key));
            }
            for n in 0..40 {
                let key = [n, hash as u8];
                prop_assert_eq!(index.get(hash, &key).map(TableEntry::offset), model.get(&(hash, key)).copied());
            }
            prop_assert_eq!((index.len(), index.iter().count()), (model.len(), model.len()));
        }
    }

    #[test]
    fn it_is_what_a_map_would_be(
        steps in prop::collection::vec((0i64..1 << 40, prop::collection::vec(0u8..3, 0..3),
            prop::option::of(prop::collection::vec(any::<u8>(), 0..300))), 0..200)
    ) {
        let (table, mut model) = (Table::new(), std::collections::BTreeMap::new());
        for (offset, key, value) in &steps {
            apply(&table, 0, &[(*offset, Some(&key[..]), value.as_deref())]);
            match value {
                Some(value) => drop(model.insert(key.clone(), (value.clone(), *offset))),
                None => drop(model.remove(key)),
            }
        }
        let as_map = |entries: Vec<TableEntry>| -> std::collections::BTreeMap<_, _> {
            entries.iter().map(|e| (e.key().to_vec(), (e.value().to_vec(), e.offset()))).collect()
        };
        prop_assert_eq!(table.len(), model.len());
        prop_assert_eq!(as_map(table.iter().collect()), model.clone());
        prop_assert_eq!(as_map(table.snapshot()), model);
    }
}
