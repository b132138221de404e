//! Dead letters of a shard, and letters to retry tiers: sent, answered, sent again.

use std::task::{Context, Poll};

use futures_util::StreamExt;
use waterwheel_core::engine::{SlotId, Verdict};

use super::{FromShard, Note, Shard, Work};
use crate::dead_letter::{Cause, To, TooLarge};
use crate::events::Event;
use crate::failure::FailureClass;
use crate::witness::Settled;

/// After so many failures of one letter at one client the client is made anew: a few may have any reason.
const FAILURES: u8 = 3;

impl Note {
    pub(super) fn of(class: FailureClass) -> Self {
        let (message, tier, follows) = (None, None, None);
        Self { class, message, parked: false, without_value: false, tier, client: 0, failures: 0, follows }
    }

    /// Counts a failure of its letter; how many there were at that client.
    fn failed_at(&mut self, client: u16) -> u8 {
        let before = if self.client == client { self.failures } else { 0 };
        (self.client, self.failures) = (client, before.saturating_add(1));
        self.failures
    }
}

impl<W: Work> Shard<W> {
    /// Sends the letter about a record to where its note says.
    pub(super) fn send_letter(&mut self, slot: SlotId) {
        let (Some((batch, index)), Some((attempts, first_failed))) =
            (self.engine.record(slot), self.engine.history(slot))
        else {
            return;
        };
        let written_ms = self.common.clock.wall_now_ms();
        let note = note_of(&mut self.notes, slot);
        let Some(((writer, letterbox), note)) = self.dead_letters.as_mut().zip(note) else { return };
        let record = batch.record(index);
        if let Some(transactor) = &self.transactor
            && transactor.was_too_large(&record)
        {
            note.without_value |= writer.too_large() == TooLarge::Pointer;
        }
        let cause = Cause {
            class: note.class,
            message: note.message.clone().map(String::from),
            attempts,
            first_failed_ms: first_failed.unwrap_or_default(),
            follows: note.follows.as_deref().copied(),
        };
        let class = note.class;
        let (to, how) = match note.tier {
            None => (To::DeadLetters { without_value: note.without_value }, Settled::DeadLettered),
            Some(tier) => {
                let number = usize::from(tier);
                (To::Tier { number, written_ms }, Settled::Tiered { tier: number })
            }
        };
        let mut letter = match writer.letter(&record, &cause, to) {
            Ok(letter) => letter,
            Err(error) => {
                self.coordinator.post(FromShard::StopAsked(error));
                return;
            }
        };
        let span = self.common.spans.as_ref().map(|(spans, _)| spans.letter(&record, &mut letter));
        match letterbox {
            Some(letterbox) => {
                let answer = letterbox.send(letter);
                self.unpolled = true;
                self.sends.push(Box::pin(async move {
                    let (sent, client) = answer.await;
                    if let Some(span) = span {
                        let code = sent.as_ref().err().map(|unsent| unsent.why.error.code().to_string());
                        span.end(code.as_deref());
                    }
                    (slot, (sent, client))
                }));
            }
            None => self.letter_in_transaction(slot, &record, (letter, span), how, class),
        }
    }

    /// A record goes to the dead-letter topic behind another one of its key.
    pub(super) fn follow_up(&mut self, slot: SlotId, behind: i64) {
        self.keep_note(slot, Note { follows: Some(Box::new(behind)), ..Note::of(FailureClass::Followed) });
        self.counts.followed += 1;
        self.send_letter(slot);
    }

    pub(super) fn read_answers(&mut self, cx: &mut Context<'_>) {
        self.unpolled = false;
        while let Poll::Ready(Some((slot, (sent, client)))) = self.sends.poll_next_unpin(cx) {
            let now = self.now();
            let record = self.engine.record(slot).map(|(batch, index)| batch.record(index));
            let note = note_of(&mut self.notes, slot);
            if let (Err(unsent), Some((writer, Some(letterbox))), Some(note)) = (&sent, &self.dead_letters, note) {
                if unsent.why.error.is_too_large() {
                    note.without_value |= writer.too_large() == TooLarge::Pointer;
                } else if note.failed_at(client) >= FAILURES {
                    letterbox.renew(client);
                }
            }
            let noted = self.note(slot).map(|note| (note.class, note.tier));
            let (class, tier) = noted.unwrap_or((FailureClass::Handler, None));
            let verdict = self.engine.settled(slot, sent.is_ok(), now);
            let Some(record) = record else { continue };
            let (partition, offset) = (record.topic_partition().clone(), record.offset());
            match (verdict, sent) {
                (Verdict::Finished, _) => {
                    let tiered = |tier| Settled::Tiered { tier: usize::from(tier) };
                    self.concluded(&record, tier.map_or(Settled::DeadLettered, tiered), class);
                }
                (Verdict::Retry { .. }, Err(unsent)) => {
                    let error = unsent.why.error;
                    self.counts.dead_letter_failures += 1;
                    tracing::warn!(%partition, offset, %error, "a dead letter, or one to a retry tier, could not be written; its partition is held");
                    self.tell(Event::DeadLetterFailed { partition, offset, error });
                }
                _ => {}
            }
        }
    }
}

pub(super) fn note_of(notes: &mut [Option<(SlotId, Note)>], slot: SlotId) -> Option<&mut Note> {
    notes.get_mut(slot.index())?.as_mut().filter(|(of, _)| *of == slot).map(|(_, note)| note)
}
