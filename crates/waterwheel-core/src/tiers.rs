//! Retry tiers: where a record goes that has had its attempts in one place, and when it has had them all.
//!
//! A *visit* is what a record has in its own topic, and in each tier that it comes to: the attempts of the retry policy, in
//! memory. Behind a visit it goes to the next tier, from the last one to the last one again, until it has had all attempts
//! that there are for it. How many it has had stands in a header, which anybody may write who may write to the tier's topic:
//! so what it says is held between what the tier implies and the cap, and a record that claims anything else gains no
//! attempts, and never a round more.

use std::time::Duration;

use crate::retry::Retry;

/// The tiers of a worker and the cap over all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiers {
    delays: Vec<Duration>,
    attempts: u32,
}

/// What a record says of itself in its headers; nobody has checked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Carried {
    /// Attempts made before it came here.
    pub attempts: Option<u32>,
    /// When it failed first, in milliseconds since the Unix epoch.
    pub first_failed_ms: Option<i64>,
}

/// What follows a failed attempt, by the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another one here.
    Again,
    /// The tier of that number.
    Tier(usize),
    /// Nothing: it has had all its attempts.
    Exhausted,
}

impl Tiers {
    /// Tiers with these delays, at least one, and the most attempts that a record has in all, its first included.
    pub fn new(delays: Vec<Duration>, attempts: u32) -> Self {
        Self { delays, attempts }
    }

    /// How long records wait in a tier.
    pub fn delay(&self, tier: usize) -> Option<Duration> {
        self.delays.get(tier).copied()
    }

    /// Attempts that a record in that tier has had before: what it says, but no fewer than one that came that far has
    /// had, and at least one below the cap, so that it has one here. None outside of tiers, whatever it says.
    pub fn attempts_before(&self, tier: Option<usize>, claimed: Option<u32>, retry: &Retry) -> u32 {
        let Some(tier) = tier else { return 0 };
        let visits = u32::try_from(tier).unwrap_or(u32::MAX).saturating_add(1);
        let most = self.attempts.saturating_sub(1);
        let least = visits.saturating_mul(retry.most().unwrap_or(1)).min(most);
        claimed.unwrap_or(least).clamp(least, most)
    }

    /// What follows a failure in that tier (`None`: the record's own topic), after `before` attempts elsewhere and `here`
    /// in this visit.
    pub fn next(&self, tier: Option<usize>, before: u32, here: u32, retry: &Retry) -> Next {
        if before.saturating_add(here) >= self.attempts {
            return Next::Exhausted;
        }
        if !retry.is_exhausted(here) {
            return Next::Again;
        }
        let last = self.delays.len().saturating_sub(1);
        Next::Tier(tier.map_or(0, |tier| tier.saturating_add(1)).min(last))
    }
}

/// When a record in a tier failed first: what it says, unless that is after it was put there.
pub fn first_failed_ms(claimed: Option<i64>, written_ms: Option<i64>) -> Option<i64> {
    let is_sound = |claimed: &i64| *claimed >= 0 && written_ms.is_none_or(|written| *claimed <= written);
    claimed.filter(is_sound).or(written_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiers(count: u64, attempts: u32) -> Tiers {
        Tiers::new((1..=count).map(Duration::from_secs).collect(), attempts)
    }

    fn visits(attempts: u32) -> Retry {
        Retry::fixed(Duration::from_millis(1)).attempts(attempts)
    }

    /// The tiers that a record that always fails comes to, and its attempts in all.
    fn way(tiers: &Tiers, retry: &Retry, mut tier: Option<usize>, claimed: Option<u32>) -> (Vec<usize>, u32) {
        let (mut came_to, mut header, mut made) = (Vec::new(), claimed, 0);
        loop {
            let before = tiers.attempts_before(tier, header, retry);
            let mut here = 0;
            loop {
                here += 1;
                made += 1;
                assert!(made <= 10_000, "it goes round for ever");
                match tiers.next(tier, before, here, retry) {
                    Next::Again => {}
                    Next::Exhausted => return (came_to, made),
                    Next::Tier(next) => {
                        came_to.push(next);
                        (tier, header) = (Some(next), Some(before + here));
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn a_record_goes_from_tier_to_tier_and_the_last_one_is_used_again_until_the_cap() {
        assert_eq!(way(&tiers(3, 8), &visits(2), None, None), (vec![0, 1, 2], 8));
        assert_eq!(way(&tiers(2, 9), &visits(2), None, None), (vec![0, 1, 1, 1], 9), "the last visit has what is left");
        assert_eq!(way(&tiers(1, 3), &visits(1), None, None), (vec![0, 0], 3));
        assert_eq!(way(&tiers(3, 2), &visits(5), None, None), (vec![], 2));
    }

    #[test]
    fn a_record_outside_of_tiers_has_had_none_whatever_it_says() {
        assert_eq!(way(&tiers(2, 6), &visits(2), None, Some(5)), (vec![0, 1], 6));
        assert_eq!(tiers(2, 6).attempts_before(None, Some(u32::MAX), &visits(2)), 0);
    }

    /// All small worlds: whatever a header says, a record in a tier has an attempt there, and never more than one that
    /// came there by itself with the fewest.
    #[test]
    fn a_forged_header_gains_no_attempts_and_makes_no_loop() {
        let claims = [None, Some(0), Some(1), Some(2), Some(3), Some(7), Some(1_000_000_000), Some(u32::MAX)];
        for (count, visit, cap) in (1..=3).flat_map(|c| (1..=3).flat_map(move |v| (1..=14).map(move |cap| (c, v, cap))))
        {
            let (tiers, retry) = (tiers(count, cap), visits(visit));
            for tier in 0..count as usize {
                let honest = cap.saturating_sub((tier as u32 + 1) * visit).max(1);
                for claimed in claims {
                    let (came_to, made) = way(&tiers, &retry, Some(tier), claimed);
                    assert!(
                        (1..=honest).contains(&made),
                        "{count} {visit} {cap} {tier} {claimed:?}: {made}, not {honest}"
                    );
                    assert!(came_to.iter().all(|next| *next > tier || *next == count as usize - 1));
                }
            }
        }
    }

    #[test]
    fn a_first_failure_that_cannot_be_is_taken_for_the_time_of_writing() {
        assert_eq!(first_failed_ms(Some(5), Some(9)), Some(5));
        for claimed in [Some(-5), Some(10), Some(i64::MAX), None] {
            assert_eq!(first_failed_ms(claimed, Some(9)), Some(9), "{claimed:?}");
        }
        assert_eq!((first_failed_ms(Some(5), None), first_failed_ms(Some(-1), None)), (Some(5), None));
    }
}
