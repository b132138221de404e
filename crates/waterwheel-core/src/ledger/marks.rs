//! A set of offsets that is cheap where a consumer's finished offsets lie: dense, in long runs, near each other.
//!
//! Pages of 1,024 offsets. A page with nothing in it is not there; neighbouring full pages are one entry of two integers;
//! any other page has its bits, 168 bytes in all (1.3 bits an offset).

use std::collections::{VecDeque, vec_deque};
use std::ops::Range;

const SHIFT: u32 = 10;
const PAGE: usize = 1 << SHIFT;
const MASK: i64 = PAGE as i64 - 1;

type Words = [u64; PAGE / 64];

/// `pages` full pages, or one with bits. `i64::MAX` is never in the set, so no end overflows.
#[derive(Clone, Debug)]
struct Chunk {
    first: i64,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Full { pages: i64 },
    Bits(Box<Words>),
}

impl Chunk {
    /// One past the last page.
    fn end(&self) -> i64 {
        match self.body {
            Body::Full { pages } => self.first + pages,
            Body::Bits(_) => self.first + 1,
        }
    }

    fn is_full(&self) -> bool {
        matches!(self.body, Body::Full { .. })
    }
}

/// A set of offsets.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    /// Ascending, disjoint; two full ones never touch.
    chunks: VecDeque<Chunk>,
    /// The page given up last, so that a consumer with little out of order does not allocate for each page.
    spare: Option<Box<Words>>,
}

impl Marks {
    #[inline]
    pub(super) fn contains(&self, offset: i64) -> bool {
        !self.chunks.is_empty() && self.contains_in_chunks(offset)
    }

    fn contains_in_chunks(&self, offset: i64) -> bool {
        let Ok(found) = self.find(offset >> SHIFT) else { return false };
        match &self.chunks[found].body {
            Body::Full { .. } => true,
            Body::Bits(words) => words[index(offset) / 64] >> (index(offset) % 64) & 1 == 1,
        }
    }

    /// Adds one offset; whether it is new.
    pub(super) fn insert(&mut self, offset: i64) -> bool {
        let (page, bit) = (offset >> SHIFT, index(offset));
        let Some(words) = self.page(page) else { return false };
        let word = &mut words[bit / 64];
        let before = *word;
        *word |= 1 << (bit % 64);
        let (new, full) = (*word != before, *word == u64::MAX && words.iter().all(|&w| w == u64::MAX));
        if full {
            self.fill(page, page + 1);
        }
        new
    }

    /// Adds all of `range`; one that ends before it begins is empty.
    pub(super) fn insert_range(&mut self, range: Range<i64>) {
        if range.is_empty() {
            return;
        }
        let (first, last) = (range.start >> SHIFT, range.end >> SHIFT);
        let (low, high) = (index(range.start), index(range.end));
        if first == last {
            self.set_bits(first, low..high);
            return;
        }
        let full = if low == 0 { first } else { first + 1 };
        if low != 0 {
            self.set_bits(first, low..PAGE);
        }
        if full < last {
            self.fill(full, last);
        }
        if high != 0 {
            self.set_bits(last, 0..high);
        }
    }

    /// The lowest offset at or above `frontier` that is not in the set. Forgets what lies below.
    #[inline]
    pub(super) fn advance(&mut self, frontier: i64) -> i64 {
        if self.chunks.is_empty() { frontier } else { self.advance_over_chunks(frontier) }
    }

    fn advance_over_chunks(&mut self, mut frontier: i64) -> i64 {
        while let Some(chunk) = self.chunks.front() {
            let page = frontier >> SHIFT;
            if chunk.first > page {
                break;
            }
            if chunk.end() > page {
                if let Body::Bits(words) = &chunk.body
                    && let Some(clear) = first_clear(words, index(frontier))
                {
                    return chunk.first << SHIFT | clear as i64;
                }
                frontier = chunk.end() << SHIFT;
            }
            if let Some(Chunk { body: Body::Bits(words), .. }) = self.chunks.pop_front() {
                self.spare = Some(words);
            }
        }
        frontier
    }

    /// What is in the set from `from` on, as ascending ranges that neither overlap nor touch.
    pub(super) fn ranges(&self, from: i64) -> Ranges<'_> {
        Ranges { chunks: self.chunks.iter(), page: None, from, held: None }
    }

    /// How many offsets from `from` on are in the set.
    pub(super) fn count(&self, from: i64) -> u64 {
        let counts = self.chunks.iter().map(|chunk| match &chunk.body {
            Body::Full { pages } => (*pages as u64) << SHIFT,
            Body::Bits(words) => {
                let low = if chunk.first == from >> SHIFT { index(from) } else { 0 };
                let above = words[low / 64 + 1..].iter().map(|word| word.count_ones()).sum::<u32>();
                u64::from((words[low / 64] >> (low % 64)).count_ones() + above)
            }
        });
        counts.sum()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let pages = self.chunks.iter().filter(|chunk| !chunk.is_full()).count() + usize::from(self.spare.is_some());
        self.chunks.capacity() * size_of::<Chunk>() + pages * size_of::<Words>()
    }

    /// The chunk that holds `page`, or where one would have to stand.
    fn find(&self, page: i64) -> Result<usize, usize> {
        let (Some(first), Some(last)) = (self.chunks.front(), self.chunks.back()) else { return Err(0) };
        // Most are looked for at one of the ends.
        let after = if last.first <= page {
            self.chunks.len()
        } else if page < first.end() {
            usize::from(first.first <= page)
        } else {
            self.chunks.partition_point(|chunk| chunk.first <= page)
        };
        match after.checked_sub(1) {
            Some(found) if self.chunks[found].end() > page => Ok(found),
            _ => Err(after),
        }
    }

    /// The bits of `page`, which is made if it is not there; `None` if it is full.
    fn page(&mut self, page: i64) -> Option<&mut Words> {
        let found = match self.find(page) {
            Ok(found) => found,
            Err(place) => {
                let words = match self.spare.take() {
                    Some(mut words) => {
                        words.fill(0);
                        words
                    }
                    None => Box::new([0; PAGE / 64]),
                };
                self.chunks.insert(place, Chunk { first: page, body: Body::Bits(words) });
                place
            }
        };
        match &mut self.chunks[found].body {
            Body::Full { .. } => None,
            Body::Bits(words) => Some(words),
        }
    }

    fn set_bits(&mut self, page: i64, bits: Range<usize>) {
        let Some(words) = self.page(page) else { return };
        for (w, word) in words.iter_mut().enumerate().take(bits.end.div_ceil(64)).skip(bits.start / 64) {
            let (low, high) = (bits.start.max(w * 64) - w * 64, bits.end.min(w * 64 + 64) - w * 64);
            *word |= u64::MAX >> (64 - (high - low)) << low;
        }
        if words.iter().all(|&w| w == u64::MAX) {
            self.fill(page, page + 1);
        }
    }

    /// Makes the pages from `first` to below `end` full, one chunk together with the full ones that they touch.
    fn fill(&mut self, mut first: i64, mut end: i64) {
        let mut from = self.chunks.partition_point(|chunk| chunk.end() < first);
        if self.chunks.get(from).is_some_and(|chunk| chunk.end() == first && !chunk.is_full()) {
            from += 1;
        }
        let mut to = self.chunks.partition_point(|chunk| chunk.first <= end);
        if to > from && self.chunks[to - 1].first == end && !self.chunks[to - 1].is_full() {
            to -= 1;
        }
        if from >= to {
            self.chunks.insert(from, Chunk { first, body: Body::Full { pages: end - first } });
            return;
        }
        first = first.min(self.chunks[from].first);
        end = end.max(self.chunks[to - 1].end());
        self.chunks[from] = Chunk { first, body: Body::Full { pages: end - first } };
        self.chunks.drain(from + 1..to);
    }
}

/// The place of an offset in its page.
fn index(offset: i64) -> usize {
    (offset & MASK) as usize
}

/// The first bit at or after `from` that is not set.
fn first_clear(words: &Words, from: usize) -> Option<usize> {
    let below = (1 << (from % 64)) - 1;
    let first = (words[from / 64] | below).trailing_ones() as usize;
    if first < 64 {
        return Some(from / 64 * 64 + first);
    }
    let clear = (from / 64 + 1..words.len()).find(|&w| words[w] != u64::MAX)?;
    Some(clear * 64 + words[clear].trailing_ones() as usize)
}

/// The first bit at or after `from` that is set.
fn first_set(words: &Words, from: usize) -> Option<usize> {
    let first = words[from / 64] >> (from % 64);
    if first != 0 {
        return Some(from + first.trailing_zeros() as usize);
    }
    let set = (from / 64 + 1..words.len()).find(|&w| words[w] != 0)?;
    Some(set * 64 + words[set].trailing_zeros() as usize)
}

/// Ascending ranges of finished offsets that neither overlap nor touch. Cloning it is cheap, and starts where it stands.
#[derive(Clone, Debug)]
pub struct Ranges<'a> {
    chunks: vec_deque::Iter<'a, Chunk>,
    /// The page being read: its first offset, its bits, the bit to go on at.
    page: Option<(i64, &'a Words, usize)>,
    from: i64,
    /// Read, and found not to touch the one before it.
    held: Option<Range<i64>>,
}

impl Ranges<'_> {
    /// The next range within one chunk.
    fn piece(&mut self) -> Option<Range<i64>> {
        loop {
            let piece = match self.page.take() {
                Some((start, words, bit)) => {
                    let Some(set) = first_set(words, bit) else { continue };
                    let clear = first_clear(words, set).unwrap_or(PAGE);
                    self.page = (clear < PAGE).then_some((start, words, clear));
                    start + set as i64..start + clear as i64
                }
                None => {
                    let chunk = self.chunks.next()?;
                    match &chunk.body {
                        Body::Full { .. } => chunk.first << SHIFT..chunk.end() << SHIFT,
                        Body::Bits(words) => {
                            self.page = Some((chunk.first << SHIFT, words, 0));
                            continue;
                        }
                    }
                }
            };
            if piece.end > self.from {
                return Some(piece.start.max(self.from)..piece.end);
            }
        }
    }
}

impl Iterator for Ranges<'_> {
    type Item = Range<i64>;

    fn next(&mut self) -> Option<Range<i64>> {
        let mut range = self.held.take().or_else(|| self.piece())?;
        while let Some(piece) = self.piece() {
            if piece.start != range.end {
                self.held = Some(piece);
                break;
            }
            range.end = piece.end;
        }
        Some(range)
    }
}
