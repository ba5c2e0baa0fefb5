//! How many requests a second a FHIR server is asked to take.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::lock;

const SECOND: Duration = Duration::from_secs(1);
/// What a server that has just come back is asked to take, of what it takes otherwise.
const EASY: usize = 4;

/// When the last requests began, and those that have their turn already.
#[derive(Debug, Default)]
pub struct Turns(VecDeque<Duration>);

impl Turns {
    /// When a request may begin that is ready at `ready`, if `most` may begin within any second. Times
    /// are since some start, in the order they are given.
    pub fn next(&mut self, ready: Duration, most: usize) -> Duration {
        let most = most.max(1);
        let before = self.0.len().checked_sub(most);
        let before = before.and_then(|index| self.0.get(index));
        let at = before.map_or(ready, |before| ready.max(*before + SECOND));
        // Nobody overtakes: after a change of `most` an earlier turn may still lie ahead.
        let at = self.0.back().map_or(at, |last| at.max(*last));
        self.0.push_back(at);
        while self.0.front().is_some_and(|first| *first + SECOND <= ready) {
            self.0.pop_front();
        }
        at
    }
}

/// The pace of one server.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    most: usize,
    easy: AtomicBool,
    replicas: AtomicUsize,
    turns: Mutex<Turns>,
}

impl Pace {
    /// At most `most` requests begin within any second.
    pub(super) fn new(most: usize) -> Self {
        Self {
            start: Instant::now(),
            most,
            easy: AtomicBool::new(false),
            replicas: AtomicUsize::new(1),
            turns: Mutex::default(),
        }
    }

    /// Whether to ask less of it.
    pub(super) fn go_easy(&self, easy: bool) {
        self.easy.store(easy, Ordering::Relaxed);
    }

    /// So many processes ask it, this one included.
    pub(super) fn share(&self, replicas: usize) {
        self.replicas.store(replicas, Ordering::Relaxed);
    }

    /// What it is asked to take of us now.
    fn part(&self) -> usize {
        let all = if self.easy.load(Ordering::Relaxed) {
            easy(self.most)
        } else {
            self.most
        };
        all / self.replicas.load(Ordering::Relaxed).max(1)
    }

    /// Waits until a request may begin.
    pub(super) async fn turn(&self) {
        let at = lock(&self.turns).next(self.start.elapsed(), self.part());
        sleep_until(self.start + at).await;
    }
}

/// What a server that has just come back is asked to take, if it takes `most` otherwise.
pub fn easy(most: usize) -> usize {
    (most / EASY).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn so_many_within_any_second_and_the_next_when_one_is_a_second_old() {
        let mut turns = Turns::default();
        let at = Duration::from_millis;
        for _ in 0..3 {
            assert_eq!(turns.next(at(100), 3), at(100));
        }
        assert_eq!(turns.next(at(200), 3), at(1100));
        assert_eq!(turns.next(at(1500), 3), at(1500));
        assert_eq!(turns.next(at(1500), 3), at(1500));
        assert_eq!(turns.next(at(1500), 3), at(2100));
        assert_eq!(turns.next(at(9000), 3), at(9000));
    }

    #[test]
    fn what_it_takes_is_divided_by_those_who_ask() {
        let pace = Pace::new(20);
        pace.share(4);
        assert_eq!(pace.part(), 5);
        pace.go_easy(true);
        assert_eq!(pace.part(), 1);
        pace.share(1);
        assert_eq!(pace.part(), 5);
        // Many together ask a little more than that, and none of them nothing.
        pace.share(9);
        let mut turns = Turns::default();
        let at = |turns: &mut Turns| turns.next(Duration::ZERO, pace.part());
        assert_eq!((at(&mut turns), at(&mut turns)), (Duration::ZERO, SECOND));
    }

    proptest! {
        #[test]
        fn never_more_than_that_within_a_second(
            gaps in proptest::collection::vec(0_u64..400, 1..200),
            most in 1_usize..30,
        ) {
            let mut turns = Turns::default();
            let mut ready = Duration::ZERO;
            let mut begun = Vec::new();
            for gap in gaps {
                ready += Duration::from_millis(gap);
                begun.push(turns.next(ready, most));
            }
            for window in begun.windows(most + 1) {
                prop_assert!(window[most] >= window[0] + SECOND);
            }
        }
    }
}
