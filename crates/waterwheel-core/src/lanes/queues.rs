//! The queues of all lanes of a partition, in one block of memory: a record that waits takes 12 bytes, and a queue that
//! comes and goes allocates nothing.

use super::Waiting;

/// Nodes that are made room for at once, at least.
const MOST_SPARE: usize = 64;

/// The end of the vacant nodes.
const NONE: u32 = u32::MAX;

/// A record that waits, and the one behind it. The last of a queue is followed by its first, so that one place names both.
#[derive(Debug)]
struct Node {
    waiting: Waiting,
    next: u32,
}

/// The nodes of all queues.
#[derive(Debug)]
pub(super) struct Queues {
    nodes: Vec<Node>,
    /// The first of the nodes that are in no queue; [`NONE`] where there is none.
    vacant: u32,
    len: usize,
}

impl Default for Queues {
    fn default() -> Self {
        Self { nodes: Vec::new(), vacant: NONE, len: 0 }
    }
}

impl Queues {
    /// Appends a record behind `last`, or to an empty queue. Returns the new last one.
    pub(super) fn push(&mut self, last: Option<u32>, waiting: Waiting) -> u32 {
        let node = Node { waiting, next: NONE };
        let at = if self.vacant == NONE {
            if self.nodes.len() == self.nodes.capacity() {
                self.nodes.reserve_exact((self.nodes.len() / 4).max(MOST_SPARE));
            }
            self.nodes.push(node);
            self.nodes.len() as u32 - 1
        } else {
            let at = self.vacant;
            self.vacant = std::mem::replace(&mut self.nodes[at as usize], node).next;
            at
        };
        let first = last.map_or(at, |last| std::mem::replace(&mut self.nodes[last as usize].next, at));
        self.nodes[at as usize].next = first;
        self.len += 1;
        at
    }

    /// Puts a record before all others of the queue whose last one is `last`.
    pub(super) fn push_front(&mut self, last: u32, waiting: Waiting) {
        // Behind the last stands the first: what is appended there, without becoming the last, is the new first.
        self.push(Some(last), waiting);
    }

    /// The first record of the queue whose last one is `last`.
    pub(super) fn first(&self, last: u32) -> Waiting {
        self.nodes[self.nodes[last as usize].next as usize].waiting
    }

    /// Takes the first record of the queue whose last one is `last`.
    pub(super) fn pop(&mut self, last: u32) -> Waiting {
        let first = self.nodes[last as usize].next;
        let Node { waiting, next } = self.nodes[first as usize];
        self.nodes[last as usize].next = next;
        self.nodes[first as usize].next = self.vacant;
        self.vacant = first;
        self.len -= 1;
        if self.len == 0 {
            self.clear();
        }
        waiting
    }

    /// Shows each record of the queue, from the first to `last`.
    pub(super) fn for_each(&mut self, last: u32, mut look: impl FnMut(&mut Waiting)) {
        let mut at = last;
        loop {
            at = self.nodes[at as usize].next;
            look(&mut self.nodes[at as usize].waiting);
            if at == last {
                return;
            }
        }
    }

    /// Each record of the queue, from the first to `last`.
    pub(super) fn iter(&self, last: u32) -> impl Iterator<Item = Waiting> {
        let first = self.nodes[last as usize].next;
        let next = move |at: &u32| (*at != last).then(|| self.nodes[*at as usize].next);
        std::iter::successors(Some(first), next).map(|at| self.nodes[at as usize].waiting)
    }

    /// Ends all queues.
    pub(super) fn clear(&mut self) {
        self.nodes.clear();
        self.vacant = NONE;
        self.len = 0;
    }
}
