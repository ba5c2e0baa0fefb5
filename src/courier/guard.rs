//! Whether many parked deliveries are the fault of their target.

use std::{collections::VecDeque, time::Duration};

use crate::store::{
    delivery::{Class, Next, Outcome, Why},
    lease::{Leased, PatientId},
};

/// More parks than this within [`WINDOW`] are the target's fault.
const PARKS: usize = 20;
const WINDOW: Duration = Duration::from_mins(10);
/// Or the same refusal for so many patients in a row.
const PATIENTS: usize = 3;

/// What was parked lately on one target.
#[derive(Debug, Default)]
pub(super) struct Guard {
    parks: VecDeque<(Duration, i64)>,
    row: Vec<(Class, PatientId, i64)>,
}

/// Whether a delivery is parked for a reason that may be its target's. A patient who is not on the
/// target, or is there twice, says nothing about it: with a laboratory's outside patients that is
/// every other delivery.
pub(super) fn counts(next: &Next) -> bool {
    match next {
        Next::Parked(why) => !matches!(why, Why::PatientUnknown { .. } | Why::MultipleMatches),
        Next::Delivered | Next::Later { .. } | Next::Held { .. } => false,
    }
}

impl Guard {
    /// Takes in what became of a delivery. `Some`: its target is to be held, and these other
    /// deliveries are to be put back.
    pub(super) fn note(
        &mut self,
        leased: &Leased,
        outcome: &Outcome,
        next: &Next,
        at: Duration,
    ) -> Option<Vec<i64>> {
        if *next == Next::Delivered {
            self.row.clear();
        }
        if counts(next) {
            self.parked(leased, outcome.class(), at)
        } else {
            None
        }
    }

    fn parked(&mut self, leased: &Leased, class: Class, at: Duration) -> Option<Vec<i64>> {
        self.parks.push_back((at, leased.delivery));
        self.parks
            .retain(|(then, _)| at.saturating_sub(*then) <= WINDOW);
        if self.row.iter().any(|(other, ..)| *other != class) {
            self.row.clear();
        }
        if !self
            .row
            .iter()
            .any(|(_, patient, _)| *patient == leased.patient)
        {
            self.row.push((class, leased.patient, leased.delivery));
        }
        let guilty: Vec<_> = if self.parks.len() > PARKS {
            self.parks.iter().map(|(_, delivery)| *delivery).collect()
        } else if self.row.len() >= PATIENTS {
            self.row.iter().map(|(_, _, delivery)| *delivery).collect()
        } else {
            return None;
        };
        *self = Self::default();
        Some(
            guilty
                .into_iter()
                .filter(|delivery| *delivery != leased.delivery)
                .collect(),
        )
    }
}
