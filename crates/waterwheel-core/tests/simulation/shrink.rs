//! Makes a failure small: the fewest steps, workers, partitions and shards that still fail in the same way.

use crate::plan::Step;
use crate::run::{Care, Ended, run};
use crate::world::Diary;
use crate::world::setup::Bounds;

/// The most runs that are spent on it.
const TRIES: usize = 4_000;

pub(crate) struct Shrunk {
    pub(crate) bounds: Bounds,
    /// The steps, and each one's place in the seed's plan.
    pub(crate) steps: Vec<(usize, Step)>,
    pub(crate) ended: Ended,
}

struct Search<'a> {
    seed: u64,
    /// The property that fails: what the message begins with.
    property: &'a str,
    tries: usize,
}

impl Search<'_> {
    /// How many steps it takes to fail, if it fails in the same way.
    fn fails(&mut self, bounds: Bounds, steps: &[(usize, Step)]) -> Option<usize> {
        self.tries += 1;
        let plain: Vec<Step> = steps.iter().map(|(_, step)| *step).collect();
        let (done, why) = run(self.seed, bounds, &plain, Diary::Closed, Care::Utmost).failure?;
        (property(&why) == self.property).then_some(done)
    }
}

fn property(why: &str) -> &str {
    why.split_once(':').map_or(why, |(property, _)| property)
}

pub(crate) fn shrink(seed: u64, plan: &[Step], why: &str) -> Shrunk {
    let mut steps: Vec<(usize, Step)> = plan.iter().copied().enumerate().collect();
    let mut bounds = Bounds::NONE;
    // Looked at closely, it may fail earlier, and in another way.
    let close = run(seed, bounds, plan, Diary::Closed, Care::Utmost).failure;
    let why = close.map_or_else(|| why.to_owned(), |(_, why)| why);
    let mut search = Search { seed, property: property(&why), tries: 0 };
    if let Some(done) = search.fails(bounds, &steps) {
        steps.truncate(done);
    }
    let mut size = steps.len() / 2;
    while size > 0 && search.tries < TRIES {
        // Fewer of everything first: it makes each step mean less.
        for smaller in smaller(bounds) {
            if let Some(done) = search.fails(smaller, &steps) {
                bounds = smaller;
                steps.truncate(done);
                break;
            }
        }
        let mut removed = false;
        let mut at = steps.len().saturating_sub(size);
        loop {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            if let Some(done) = search.fails(bounds, &fewer).filter(|_| fewer.len() < steps.len()) {
                fewer.truncate(done);
                steps = fewer;
                removed = true;
            }
            if at == 0 || search.tries >= TRIES {
                break;
            }
            at = at.min(steps.len()).saturating_sub(size);
        }
        if !removed || size > steps.len() {
            size /= 2;
        }
    }
    let plain: Vec<Step> = steps.iter().map(|(_, step)| *step).collect();
    let ended = run(seed, bounds, &plain, Diary::Story, Care::Utmost);
    Shrunk { bounds, steps, ended }
}

/// Bounds that are a little tighter in one way.
fn smaller(bounds: Bounds) -> Vec<Bounds> {
    let mut all = Vec::new();
    all.extend((1..bounds.partitions).map(|partitions| Bounds { partitions, ..bounds }));
    all.extend((1..bounds.workers).map(|workers| Bounds { workers, ..bounds }));
    all.extend((1..bounds.shards).map(|shards| Bounds { shards, ..bounds }));
    all
}
