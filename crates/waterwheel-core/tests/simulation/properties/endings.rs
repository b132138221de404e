//! What an attempt's end may come to: I3, I4, P8.

use waterwheel_core::engine::{Exhausted, Outcome, Verdict, Wish};

use super::{Checked, ensure};
use crate::world::World;
use crate::world::worker::Place;

impl World {
    /// Whether a result of that assignment counts now.
    pub(crate) fn counts(&self, place: &Place) -> bool {
        // By the time that the engine knows: one that was frozen learns of its deadline with the next tick.
        let now = self.workers.get(&place.worker).map_or(self.now, |w| w.shards[place.shard].told);
        self.model.lives.get(&place.life()).is_some_and(|life| life.counts(now))
    }

    /// The verdict on an attempt that ended, against what is configured.
    pub(crate) fn check_verdict(&self, place: &Place, outcome: Outcome, verdict: Verdict) -> Checked {
        let counts = self.counts(place);
        ensure!(counts || verdict == Verdict::Stale, "I4: {outcome:?} of {place:?} is {verdict:?}, too late");
        ensure!(!counts || verdict != Verdict::Stale, "I3: {outcome:?} of {place:?} is not taken");
        if !counts {
            return Ok(());
        }
        let life = &self.model.lives[&place.life()];
        let failed = life.failed.get(&place.offset).map_or(0, |(n, _)| *n);
        let draining = life.deadline.is_some();
        let settings = &self.setup.engine;
        let last = settings.retry.is_exhausted(failed).then_some(settings.exhausted);
        let by_policy = matches!(outcome, Outcome::Failed(Wish::Policy | Wish::RetryAfter(_)) | Outcome::Cut);
        let last = match self.setup.tier.filter(|_| by_policy) {
            None => last,
            // P20: nothing comes to the tier that has had all its attempts, wherever it had them.
            Some(tier) if self.attempts_before(place) + failed >= tier.attempts => Some(settings.exhausted),
            Some(_) if last.is_some() => {
                ensure!(
                    matches!(verdict, Verdict::Tier { tier: 0, .. }),
                    "P20: {place:?} after {failed} is {verdict:?}"
                );
                return Ok(());
            }
            Some(_) => None,
        };
        let last = match outcome {
            Outcome::Ok => {
                ensure!(verdict == Verdict::Finished, "I3: {place:?} ended well and is {verdict:?}");
                return Ok(());
            }
            Outcome::Again(_) => None,
            Outcome::Failed(Wish::DeadLetter) => Some(Exhausted::DeadLetter),
            Outcome::Failed(Wish::Park) => Some(Exhausted::Park),
            Outcome::Failed(Wish::Skip) => Some(Exhausted::Skip),
            Outcome::Failed(Wish::Stop) => Some(Exhausted::Stop),
            Outcome::Failed(Wish::Policy | Wish::RetryAfter(_)) | Outcome::Cut => last,
        };
        let fits = match (last, verdict) {
            (Some(Exhausted::Skip), verdict) => verdict == Verdict::Skipped,
            (Some(Exhausted::Stop), verdict) => verdict == Verdict::Stop,
            (Some(Exhausted::DeadLetter), Verdict::DeadLetter { .. }) => settings.dead_letter,
            (Some(Exhausted::DeadLetter), _) if settings.dead_letter => false,
            (_, Verdict::CutOff) => draining,
            (Some(_), Verdict::Parked { after, .. }) => !draining && after == settings.retry.max(),
            (None, Verdict::Retry { after, .. }) => !draining && self.fits_wait(outcome, after),
            _ => false,
        };
        ensure!(fits, "P8: {outcome:?} of {place:?} after {failed} that failed is {verdict:?}");
        Ok(())
    }

    fn fits_wait(&self, outcome: Outcome, after: std::time::Duration) -> bool {
        match outcome {
            Outcome::Again(wish) | Outcome::Failed(Wish::RetryAfter(wish)) => after == wish,
            _ => after <= self.setup.engine.retry.max(),
        }
    }
}
