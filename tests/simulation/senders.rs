//! The laboratories: blood counts of a few patients, corrections among them, each sent until there
//! is a receipt, some once more.

use std::collections::VecDeque;

use rand::{Rng, rngs::StdRng, seq::SliceRandom};
use time::OffsetDateTime;

use crate::hospital::counts::{Submission, count};

/// A laboratory: one after another, awaiting each receipt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sender {
    pub(crate) queue: VecDeque<Submission>,
}

/// The submissions of a schedule, shared out among laboratories.
pub(crate) fn draw(random: &mut StdRng, patients: &[String], start: OffsetDateTime) -> Vec<Sender> {
    let mut senders = vec![Sender::default(); random.random_range(1..=4)];
    for mrn in patients {
        let mut mine = Vec::new();
        for number in 0..random.random_range(2..=4) {
            let severity = random.random_range(0..4);
            mine.push(count(mrn, number, 0, severity, start));
            if random.random_bool(0.2) {
                // The laboratory corrects itself.
                let severity = random.random_range(0..4);
                mine.push(count(mrn, number, 1, severity, start));
            }
        }
        // They need not arrive in the order in which the blood was drawn.
        if random.random_bool(0.5) {
            mine.shuffle(random);
        }
        if random.random_bool(0.5) {
            let again = mine[random.random_range(0..mine.len())].clone();
            mine.push(again);
        }
        for submission in mine {
            let sender = random.random_range(0..senders.len());
            senders[sender].queue.push_back(submission);
        }
    }
    senders
}
