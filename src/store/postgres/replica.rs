//! Staying alive, and taking over from those that are not.
//!
//! A process raises its beat; another takes its lanes only after it has itself watched the beat
//! stand still, so that no clock of two machines is ever compared.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use deadpool_postgres::Pool;

use super::{
    connection::{Connection, Millis, Tried, read, write},
    open::Timing,
};
use crate::store::{
    error::Result,
    lease::{Leased, PatientId, TargetId},
    row::{find, get},
};

/// Who we are, and what we hold.
pub(super) struct Replica {
    timing: Timing,
    app_version: String,
    state: Mutex<State>,
}

struct State {
    id: String,
    /// How often the id was changed.
    life: u32,
    last_beat: Instant,
    /// Lanes that were given out, with their fences.
    held: HashSet<Lane>,
    /// A lane may be ours without our knowing.
    stray: bool,
    /// What was seen of the others: beat, and since when.
    others: HashMap<String, (Option<i64>, Instant)>,
}

type Lane = (TargetId, PatientId, i64);

fn lane(leased: &Leased) -> Lane {
    (leased.target, leased.patient, leased.fence)
}

impl Replica {
    pub(super) fn new(id: String, app_version: String, timing: Timing) -> Self {
        Self {
            timing,
            app_version,
            state: Mutex::new(State {
                id,
                life: 0,
                last_beat: Instant::now(),
                held: HashSet::new(),
                stray: false,
                others: HashMap::new(),
            }),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn id(&self) -> String {
        self.state().id.clone()
    }

    pub(super) fn every(&self) -> Duration {
        self.timing.beat
    }

    /// Whether others can be sure that we still work.
    pub(super) fn is_alive(&self) -> bool {
        self.state().last_beat.elapsed() < self.timing.late
    }

    /// Lanes were given out.
    pub(super) fn hold(&self, leased: &[Leased]) {
        self.state().held.extend(leased.iter().map(lane));
    }

    /// A lane came back. `sure`: its row says so too.
    pub(super) fn let_go(&self, leased: &Leased, sure: bool) {
        let mut state = self.state();
        state.held.remove(&lane(leased));
        state.stray |= !sure;
    }

    /// What a lease did is not known.
    pub(super) fn lost_count(&self) {
        self.state().stray = true;
    }

    /// Processes that work, ourselves included, as far as was seen.
    pub(super) fn live(&self) -> usize {
        let state = self.state();
        let others = state.others.values();
        1 + others
            .filter(|(beat, since)| beat.is_some() && since.elapsed() < self.timing.standstill)
            .count()
    }

    /// Say that we work, and look at the others. `now` goes into new rows only.
    pub(super) async fn beat(&self, pool: &Pool, now: i64) -> Result<()> {
        const BEAT: &str = "UPDATE replica SET beat = beat + 1 WHERE id = $1";
        let id = self.id();
        let asked = Instant::now();
        let name = id.clone();
        let known = write(pool, move |connection| {
            let name = name.clone();
            Box::pin(async move { Ok(connection.run(BEAT, &[&name]).await? == 1) })
        })
        .await?;
        if known && self.is_alive() {
            self.state().last_beat = asked;
        } else {
            // Others may have taken everything: what we hold, we hold no longer.
            self.begin_anew(pool, &id, now).await?;
        }
        self.watch(pool).await
    }

    async fn begin_anew(&self, pool: &Pool, old: &str, now: i64) -> Result<()> {
        const FORGET: &str = "DELETE FROM replica WHERE id = $1";
        const JOIN: &str = "INSERT INTO replica (id, app_version, started_at, beat) \
             VALUES ($1, $2, $3, 0) ON CONFLICT (id) DO UPDATE SET beat = replica.beat + 1";
        let life = self.state().life + 1;
        let base = old.split('#').next().unwrap_or(old);
        let fresh = format!("{base}#{life}");
        let (old, joining) = (old.to_owned(), fresh.clone());
        let version = self.app_version.clone();
        let asked = Instant::now();
        write(pool, move |connection| {
            let (old, fresh, version) = (old.clone(), joining.clone(), version.clone());
            Box::pin(async move {
                connection.run(FORGET, &[&old]).await?;
                connection
                    .run(JOIN, &[&fresh, &version, &Millis(now)])
                    .await?;
                Ok(())
            })
        })
        .await?;
        let mut state = self.state();
        state.id = fresh;
        state.life = life;
        state.last_beat = asked;
        state.held.clear();
        Ok(())
    }

    /// Look at the others, and take over from those that stand still.
    async fn watch(&self, pool: &Pool) -> Result<()> {
        const OTHERS: &str = "SELECT coalesce(owners.owner, replica.id), replica.beat \
             FROM (SELECT DISTINCT owner FROM lane WHERE owner IS NOT NULL) AS owners \
             FULL JOIN replica ON replica.id = owners.owner \
             WHERE coalesce(owners.owner, replica.id) <> $1";
        let me = self.id();
        let seen: Vec<(String, Option<i64>)> = read(pool, move |connection| {
            Box::pin(async move {
                let rows = connection.all(OTHERS, &[&me]).await?;
                Ok(rows
                    .iter()
                    .map(|row| Ok((get(row, 0)?, find(row, 1)?)))
                    .collect::<Result<_>>()?)
            })
        })
        .await?;
        let stale = {
            let mut state = self.state();
            let now = Instant::now();
            let before = std::mem::take(&mut state.others);
            state.others = seen
                .into_iter()
                .map(|(owner, beat)| {
                    let since = match before.get(&owner) {
                        Some((held, since)) if *held == beat => *since,
                        _ => now,
                    };
                    (owner, (beat, since))
                })
                .collect();
            state
                .others
                .iter()
                .filter(|(_, (_, since))| since.elapsed() >= self.timing.standstill)
                .map(|(owner, (beat, _))| (owner.clone(), *beat))
                .collect::<Vec<_>>()
        };
        for (owner, beat) in stale {
            write(pool, move |connection| {
                Box::pin(take_over(connection, owner.clone(), beat))
            })
            .await?;
        }
        Ok(())
    }

    /// Free lanes that are ours by their row, but that nobody was given.
    pub(super) async fn find_stray(&self, connection: &Connection) -> Tried<()> {
        const OURS: &str = "SELECT target_id, patient_id, fence FROM lane WHERE owner = $1 \
             FOR UPDATE SKIP LOCKED";
        if !self.state().stray {
            return Ok(());
        }
        let rows = connection.all(OURS, &[&self.id()]).await?;
        for row in &rows {
            let lane: Lane = (
                TargetId(get(row, 0)?),
                PatientId(get(row, 1)?),
                get(row, 2)?,
            );
            if !self.state().held.contains(&lane) {
                free(connection, lane.0, lane.1).await?;
            }
        }
        self.state().stray = false;
        Ok(())
    }

    /// We stop: what is still ours is free, and looked at before it is written again.
    pub(super) async fn leave(&self, pool: &Pool) -> Result<()> {
        let me = self.id();
        write(pool, move |connection| {
            Box::pin(take_over(connection, me.clone(), None))
        })
        .await
    }
}

/// Take the lanes of `owner`, unless its beat is not `beat` any more.
async fn take_over(connection: &Connection, owner: String, beat: Option<i64>) -> Tried<()> {
    const BEAT: &str = "SELECT beat FROM replica WHERE id = $1 FOR UPDATE";
    const LANES: &str = "SELECT target_id, patient_id FROM lane WHERE owner = $1 \
         FOR UPDATE SKIP LOCKED";
    const FORGET: &str = "DELETE FROM replica WHERE id = $1 \
         AND NOT EXISTS (SELECT 1 FROM lane WHERE owner = $1)";
    let held: Option<i64> = match connection.first(BEAT, &[&owner]).await? {
        Some(row) => Some(get(&row, 0)?),
        None => None,
    };
    if beat.is_some() && held.is_some() && held != beat {
        return Ok(());
    }
    let rows = connection.all(LANES, &[&owner]).await?;
    for row in &rows {
        free(connection, TargetId(get(row, 0)?), PatientId(get(row, 1)?)).await?;
    }
    connection.run(FORGET, &[&owner]).await?;
    Ok(())
}

/// A locked lane is free; what was under way in it is looked at before it is written again.
async fn free(connection: &Connection, target: TargetId, patient: PatientId) -> Tried<()> {
    const DELIVERY: &str = "UPDATE delivery SET state = 'later', before = 'verify' \
         WHERE target_id = $1 AND patient_id = $2 AND state = 'in_flight'";
    const LANE: &str = "UPDATE lane SET owner = NULL, fence = fence + 1, verify_first = true \
         WHERE target_id = $1 AND patient_id = $2";
    connection.run(DELIVERY, &[&target.0, &patient.0]).await?;
    connection.run(LANE, &[&target.0, &patient.0]).await?;
    Ok(())
}
