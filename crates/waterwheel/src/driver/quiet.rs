//! Keeps trouble that repeats itself from flooding logs and events.

use std::collections::HashMap;
use std::time::Duration;

use waterwheel_core::Now;

/// How often the same trouble is told.
const EVERY: Duration = Duration::from_secs(10);

/// Remembers what was told when; by error code.
#[derive(Debug, Default)]
pub(crate) struct Quiet(HashMap<i32, Now>);

impl Quiet {
    /// Whether trouble of this code is to be told now.
    pub(crate) fn is_news(&mut self, code: i32, now: Now) -> bool {
        let news = self.0.get(&code).is_none_or(|told| now.since(*told) >= EVERY);
        if news {
            self.0.insert(code, now);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trouble_is_told_once_in_ten_seconds() {
        let mut quiet = Quiet::default();
        let at = |s| Now::at(Duration::from_secs(s));
        let told: Vec<bool> = [0, 1, 9, 10, 11].map(|s| quiet.is_news(-187, at(s))).into();
        assert_eq!(told, [true, false, false, true, false]);
        assert!(quiet.is_news(-195, at(11)));
    }
}
