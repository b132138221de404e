//! The parcels that a producer holds: which of their records wait for room, which librdkafka has, what was said of them.
//!
//! A record stays here, at the same address, from its parcel's coming until the whole parcel is answered. librdkafka reads
//! its value from here instead of copying it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::errors;
use crate::client::{Answers, Outgoing, Parcel, SendError, SentAll, Unsent, Written};
use crate::error::KafkaError;

/// A record's place: its parcel, and where in it. Travels through librdkafka as the message's opaque.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) parcel: u32,
    pub(super) place: u32,
    /// Who sent it wants to know where it was written.
    pub(super) asks: bool,
}

/// The bit of `asks`; a place stays below it (`MOST_AT_ONCE`).
const ASKS: u64 = 1 << 31;

impl Ticket {
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.parcel) << 32 | u64::from(self.place) | if self.asks { ASKS } else { 0 }
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        Self { parcel: (bits >> 32) as u32, place: (bits & (ASKS - 1)) as u32, asks: bits & ASKS != 0 }
    }
}

/// What is to be told, with no lock held.
pub(super) enum Answer {
    /// A parcel of which nothing is unanswered any more.
    Whole(Held),
    /// Some records of one that has an answer for each.
    Part(Arc<dyn Answers>, Vec<(u32, Written)>, Vec<(u32, Unsent)>),
}

impl Answer {
    /// How many records it answers.
    pub(super) fn len(&self) -> usize {
        match self {
            Answer::Whole(Held { parcel: Parcel::Each(..), .. }) => 0,
            Answer::Whole(held) => held.parcel.records().len(),
            Answer::Part(_, written, failed) => written.len() + failed.len(),
        }
    }

    /// Why a record of it failed.
    pub(super) fn failure(&self) -> Option<&KafkaError> {
        let why = match self {
            Answer::Whole(held) => held.failed.first().map(|(_, why)| why),
            Answer::Part(.., failed) => failed.first().map(|(_, unsent)| &unsent.why),
        };
        why.map(|why| &why.error)
    }

    /// Tells whoever waits for it.
    pub(super) fn tell(self) {
        match self {
            Answer::Whole(held) => held.tell(),
            Answer::Part(to, written, failed) => to.told(&written, failed),
        }
    }
}

/// What the records of a run have in common, beside their topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One record with headers or a time of its own, which the batch call cannot carry.
    Apart,
    /// Each names its partition.
    Placed,
    /// Each has a key that gives its partition.
    Keyed,
    /// Some have no key, so that librdkafka has to choose.
    Mixed,
}

/// All parcels that are not answered.
#[derive(Default)]
pub(super) struct Parcels {
    held: Vec<Option<Held>>,
    free: Vec<u32>,
    /// Those with records not handed over yet, in their order.
    waiting: VecDeque<u32>,
}

/// A parcel that is not answered.
pub(super) struct Held {
    parcel: Parcel,
    /// Places handed over and refused for want of room, ascending. All are below `next`.
    refused: Vec<u32>,
    /// The first place never handed over.
    next: u32,
    unanswered: u32,
    failed: Vec<(usize, SendError)>,
    /// Where the record was written, if it is one that asks.
    at: Option<Written>,
}

impl Parcels {
    /// Takes a parcel that has at least one record.
    pub(super) fn take_in(&mut self, parcel: Parcel) {
        let unanswered = parcel.records().len() as u32;
        debug_assert!(unanswered > 0, "nobody would ever be told");
        let held = Held { parcel, refused: Vec::new(), next: 0, unanswered, failed: Vec::new(), at: None };
        let number = match self.free.pop() {
            Some(number) => {
                self.held[number as usize] = Some(held);
                number
            }
            None => {
                self.held.push(Some(held));
                self.held.len() as u32 - 1
            }
        };
        self.waiting.push_back(number);
    }

    /// Whether records wait to be handed over.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A record of a parcel that is not answered.
    pub(super) fn record(&self, ticket: Ticket) -> Option<&Outgoing> {
        self.held.get(ticket.parcel as usize)?.as_ref()?.parcel.records().get(ticket.place as usize)
    }

    /// Puts the next records to hand over in `run`, at most `most`: of one topic, of one kind, in their order. To be
    /// followed by [`Self::handed_over`].
    pub(super) fn next_run(&mut self, most: usize, run: &mut Vec<Ticket>) -> Option<Kind> {
        run.clear();
        let mut so_far: Option<Run> = None;
        for &number in &self.waiting {
            let Some(held) = self.held[number as usize].as_mut() else { continue };
            let records = held.parcel.records();
            let asks = !matches!(held.parcel, Parcel::Many(..));
            let mut whole = true;
            let mut again = 0;
            while again < held.refused.len() && whole {
                whole = run.len() < most && Run::admits(&mut so_far, &records[held.refused[again] as usize]);
                if whole {
                    run.push(Ticket { parcel: number, place: held.refused[again], asks });
                    again += 1;
                }
            }
            held.refused.drain(..again);
            while (held.next as usize) < records.len() && whole {
                whole = run.len() < most && Run::admits(&mut so_far, &records[held.next as usize]);
                if whole {
                    run.push(Ticket { parcel: number, place: held.next, asks });
                    held.next += 1;
                }
            }
            if !whole {
                break;
            }
        }
        so_far.map(|run| run.kind)
    }

    /// Says which records of a run, by their place in it, were refused for want of room (sorted here). They come first in
    /// the next one.
    pub(super) fn handed_over(&mut self, run: &[Ticket], refused: &mut [u32]) {
        refused.sort_unstable();
        for of_one in refused.chunk_by(|&a, &b| run[a as usize].parcel == run[b as usize].parcel) {
            if let Some(held) = &mut self.held[run[of_one[0] as usize].parcel as usize] {
                held.refused.splice(0..0, of_one.iter().map(|&i| run[i as usize].place));
            }
        }
        // Parcels before the last one of the run are handed over, unless a record of theirs was refused.
        let touched = run.chunk_by(|a, b| a.parcel == b.parcel).count();
        let held = &self.held;
        let rest: Vec<u32> = if refused.is_empty() {
            let last = run.last().map(|t| t.parcel).filter(|&last| has_more(held, last));
            self.waiting.drain(..touched);
            last.into_iter().collect()
        } else {
            self.waiting.drain(..touched).filter(|&number| has_more(held, number)).collect()
        };
        for number in rest.into_iter().rev() {
            self.waiting.push_front(number);
        }
    }

    /// Notes that `count` records of a parcel were acknowledged that do not ask where they were written.
    pub(super) fn acknowledged(&mut self, parcel: u32, count: u32, answers: &mut Vec<Answer>) {
        if let Some(held) = self.held.get_mut(parcel as usize).and_then(Option::as_mut) {
            held.unanswered -= count;
            self.if_answered(parcel, answers);
        }
    }

    /// Notes where records of a parcel were written, by their places.
    pub(super) fn written(&mut self, parcel: u32, written: Vec<(u32, Written)>, answers: &mut Vec<Answer>) {
        let Some(held) = self.held.get_mut(parcel as usize).and_then(Option::as_mut) else { return };
        held.unanswered -= written.len() as u32;
        held.at = written.last().map(|(_, at)| *at);
        if let Parcel::Each(_, to) = &held.parcel {
            answers.push(Answer::Part(to.clone(), written, Vec::new()));
        }
        self.if_answered(parcel, answers);
    }

    /// Notes that a record failed.
    pub(super) fn failed(&mut self, ticket: Ticket, why: SendError, answers: &mut Vec<Answer>) {
        let Some(held) = self.held.get_mut(ticket.parcel as usize).and_then(Option::as_mut) else { return };
        held.unanswered -= 1;
        match &held.parcel {
            Parcel::Each(records, to) => {
                let unsent = (ticket.place, Unsent { record: records[ticket.place as usize].clone(), why });
                match answers.last_mut() {
                    Some(Answer::Part(same, _, failed)) if Arc::ptr_eq(same, to) => failed.push(unsent),
                    _ => answers.push(Answer::Part(to.clone(), Vec::new(), vec![unsent])),
                }
            }
            _ => held.failed.push((ticket.place as usize, why)),
        }
        self.if_answered(ticket.parcel, answers);
    }

    fn if_answered(&mut self, parcel: u32, answers: &mut Vec<Answer>) {
        let Some(held) = self.held[parcel as usize].take_if(|held| held.unanswered == 0) else { return };
        answers.push(Answer::Whole(held));
        self.free.push(parcel);
        if self.free.len() == self.held.len() {
            // What a burst took is given back.
            self.held.clear();
            self.free.clear();
            self.held.shrink_to(KEPT);
            self.free.shrink_to(KEPT);
            self.waiting.shrink_to(KEPT);
        }
    }

    /// Fails everything that waits.
    pub(super) fn give_up(&mut self, error: &SendError, answers: &mut Vec<Answer>) {
        for number in std::mem::take(&mut self.waiting) {
            let Some(held) = &mut self.held[number as usize] else { continue };
            let mut places = std::mem::take(&mut held.refused);
            places.extend(held.next..held.parcel.records().len() as u32);
            held.next = held.parcel.records().len() as u32;
            for place in places {
                self.failed(Ticket { parcel: number, place, asks: false }, error.clone(), answers);
            }
        }
    }
}

/// Parcels whose room is kept when none is left.
const KEPT: usize = 1_024;

/// Whether a parcel has records to hand over.
fn has_more(held: &[Option<Held>], parcel: u32) -> bool {
    held[parcel as usize]
        .as_ref()
        .is_some_and(|h| !h.refused.is_empty() || (h.next as usize) < h.parcel.records().len())
}

/// A run as far as it was put together.
struct Run {
    topic: Arc<str>,
    kind: Kind,
}

impl Run {
    /// Whether the run goes on with this record.
    fn admits(so_far: &mut Option<Self>, record: &Outgoing) -> bool {
        let kind = kind(record);
        let Some(run) = so_far else {
            *so_far = Some(Self { topic: record.topic.clone(), kind });
            return true;
        };
        let same_topic = Arc::ptr_eq(&run.topic, &record.topic) || run.topic == record.topic;
        match (run.kind, kind) {
            (Kind::Apart, _) | (_, Kind::Apart) => false,
            _ if !same_topic => false,
            (Kind::Placed, Kind::Placed) => true,
            (Kind::Placed, _) | (_, Kind::Placed) => false,
            (Kind::Keyed, Kind::Keyed) => true,
            _ => {
                run.kind = Kind::Mixed;
                true
            }
        }
    }
}

fn kind(record: &Outgoing) -> Kind {
    if !record.headers.is_empty() || record.timestamp.is_some() {
        Kind::Apart
    } else if record.partition.is_some() {
        Kind::Placed
    } else if record.key.is_some() {
        Kind::Keyed
    } else {
        Kind::Mixed
    }
}

impl Held {
    fn tell(mut self) {
        match self.parcel {
            Parcel::One(record, to) => {
                let sent = match (self.failed.pop(), self.at) {
                    (None, Some(at)) => Ok(at),
                    (failed, _) => {
                        let why = failed.map_or_else(lost, |(_, why)| why);
                        Err(Box::new(Unsent { record, why }))
                    }
                };
                // Who asked may have gone.
                let _ = to.send(sent);
            }
            Parcel::Many(records, to) => {
                self.failed.sort_unstable_by_key(|(place, _)| *place);
                let _ = to.send(SentAll { records, failed: self.failed });
            }
            // Told already; its records are dropped here, with no lock held.
            Parcel::Each(..) => {}
        }
    }
}

/// The answer for a record whose client ended before it was told.
fn lost() -> SendError {
    SendError { error: errors::ended(), possibly_written: true, fatal: false }
}

impl Drop for Parcels {
    /// Nobody is left without an answer, whatever ended the client.
    fn drop(&mut self) {
        for mut held in self.held.drain(..).flatten() {
            // Which of them were acknowledged is not known any more.
            if let Parcel::Each(records, to) = held.parcel {
                let unsent = (0..).zip(records).map(|(place, record)| (place, Unsent { record, why: lost() }));
                to.told(&[], unsent.collect());
                continue;
            }
            let all = 0..held.parcel.records().len();
            held.failed = all.map(|place| (place, lost())).collect();
            held.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn record(number: usize, partition: Option<i32>, key: bool) -> Outgoing {
        Outgoing {
            topic: "t".into(),
            partition,
            key: key.then(|| (&b"k"[..]).into()),
            value: Some(number.to_string().as_bytes().into()),
            headers: Vec::new(),
            timestamp: number.is_multiple_of(13).then_some(0),
        }
    }

    fn number(parcels: &Parcels, ticket: Ticket) -> usize {
        let value = parcels.record(ticket).unwrap().value.clone().unwrap();
        std::str::from_utf8(&value).unwrap().parse().unwrap()
    }

    /// Parcels of all sizes against a client that takes a part of each run: of each partition of the run a first part.
    #[test]
    fn each_record_is_handed_over_once_and_those_of_a_partition_in_order() {
        let mut seed = 1_u64;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        let mut parcels = Parcels::default();
        let (mut given, mut answers) = (0, Vec::new());
        let mut taken: Vec<Vec<(usize, Ticket)>> = vec![Vec::new(); 3];
        let (mut run, mut rounds) = (Vec::new(), 0);
        while given < 5_000 || parcels.is_waiting() {
            if given < 5_000 {
                let records: Vec<_> = (0..1 + random(30))
                    .map(|i| {
                        let partition = (random(3) > 0).then(|| random(3) as i32);
                        record(given + i, partition, random(5) > 0)
                    })
                    .collect();
                given += records.len();
                let (to, answer) = oneshot::channel();
                parcels.take_in(Parcel::Many(records, to));
                answers.push(answer);
            }
            let Some(kind) = parcels.next_run(1 + random(40), &mut run) else { continue };
            assert!(run.iter().all(|&t| kind_fits(kind, parcels.record(t).unwrap())), "{kind:?}");
            let mut refused = Vec::new();
            // As if all keys were one partition's, and null keys another's.
            let partition = |t: Ticket| {
                let record = parcels.record(t).unwrap();
                record.partition.unwrap_or(i32::from(record.key.is_some())) as usize
            };
            let mut full = [false; 3];
            for (i, &ticket) in run.iter().enumerate() {
                full[partition(ticket)] |= random(20) == 0;
                if full[partition(ticket)] {
                    refused.push(i as u32);
                } else {
                    taken[partition(ticket)].push((number(&parcels, ticket), ticket));
                }
            }
            parcels.handed_over(&run, &mut refused);
            rounds += 1;
        }
        assert!(rounds > 100);
        let mut all: Vec<_> = taken.iter().flatten().map(|(number, _)| *number).collect();
        assert!(taken.iter().all(|of_one| of_one.is_sorted_by_key(|(number, _)| *number)), "out of order");
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..given), "lost or twice");

        for (i, &(_, ticket)) in taken.iter().flatten().enumerate() {
            let mut told = Vec::new();
            if i % 3 == 0 {
                parcels.failed(ticket, lost(), &mut told);
            } else {
                parcels.acknowledged(ticket.parcel, 1, &mut told);
            }
            told.into_iter().for_each(Answer::tell);
        }
        let failed: usize = answers.iter_mut().map(|answer| answer.try_recv().unwrap().failed.len()).sum();
        assert_eq!(failed, given.div_ceil(3));
        assert!(parcels.held.is_empty() && parcels.free.is_empty());
    }

    fn kind_fits(of_run: Kind, record: &Outgoing) -> bool {
        match of_run {
            Kind::Mixed => matches!(kind(record), Kind::Mixed | Kind::Keyed),
            _ => kind(record) == of_run,
        }
    }

    #[test]
    fn who_waits_is_answered_when_the_client_is_gone() {
        let mut parcels = Parcels::default();
        let (to, mut one) = oneshot::channel();
        parcels.take_in(Parcel::One(record(1, None, true), to));
        let (to, mut many) = oneshot::channel();
        parcels.take_in(Parcel::Many(vec![record(2, None, true), record(3, None, true)], to));
        drop(parcels);
        let unsent = one.try_recv().unwrap().unwrap_err();
        assert!(unsent.why.possibly_written && unsent.record.value.as_deref() == Some(b"1"));
        assert_eq!(many.try_recv().unwrap().failed.len(), 2);
    }

    #[test]
    fn giving_up_fails_what_waits_and_nothing_else() {
        let mut parcels = Parcels::default();
        let (to, mut answer) = oneshot::channel();
        parcels.take_in(Parcel::Many((1..6).map(|i| record(i, Some(0), true)).collect(), to));
        let mut run = Vec::new();
        parcels.next_run(3, &mut run);
        parcels.handed_over(&run, &mut [1]);
        let mut told = Vec::new();
        parcels.give_up(&lost(), &mut told);
        assert!(told.is_empty() && !parcels.is_waiting());
        parcels.acknowledged(run[0].parcel, 2, &mut told);
        told.into_iter().for_each(Answer::tell);
        let failed: Vec<_> = answer.try_recv().unwrap().failed.into_iter().map(|(place, _)| place).collect();
        assert_eq!(failed, [1, 3, 4]);
    }
}
