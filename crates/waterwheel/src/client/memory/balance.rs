//! Who of a group's members gets which partition.

use std::collections::BTreeMap;

use crate::record::TopicPartition;

/// Who has what; members by their numbers.
pub(super) type Spread = BTreeMap<TopicPartition, u64>;

/// Spreads partitions over those who may have them, so that no two counts differ by more than one where all may have
/// all, and as few as possible leave the member that `before` names.
pub(super) fn spread(partitions: &[(TopicPartition, Vec<u64>)], before: &Spread) -> Spread {
    let mut load: BTreeMap<u64, usize> = partitions.iter().flat_map(|(_, takers)| takers).map(|m| (*m, 0)).collect();
    let mut spread = Spread::new();
    for (partition, takers) in partitions {
        if let Some(member) = before.get(partition).filter(|member| takers.contains(member)) {
            *load.entry(*member).or_default() += 1;
            spread.insert(partition.clone(), *member);
        }
    }
    let least = |takers: &[u64], load: &BTreeMap<u64, usize>| takers.iter().copied().min_by_key(|m| (load[m], *m));
    for (partition, takers) in partitions {
        if let (false, Some(member)) = (spread.contains_key(partition), least(takers, &load)) {
            *load.entry(member).or_default() += 1;
            spread.insert(partition.clone(), member);
        }
    }
    // Each move makes the counts more alike, so this ends.
    loop {
        let uneven = partitions.iter().find_map(|(partition, takers)| {
            let (has, wants) = (*spread.get(partition)?, least(takers, &load)?);
            (load[&has] > load[&wants] + 1).then_some((partition, has, wants))
        });
        let Some((partition, has, wants)) = uneven else { return spread };
        spread.insert(partition.clone(), wants);
        *load.entry(has).or_default() -= 1;
        *load.entry(wants).or_default() += 1;
    }
}

/// Spreads partitions without a look at who had them: each goes to the taker `turn` places behind its own.
pub(super) fn deal(partitions: &[(TopicPartition, Vec<u64>)], turn: usize) -> Spread {
    let given = partitions.iter().enumerate().filter(|(_, (_, takers))| !takers.is_empty());
    given.map(|(at, (partition, takers))| (partition.clone(), takers[(at + turn) % takers.len()])).collect()
}
