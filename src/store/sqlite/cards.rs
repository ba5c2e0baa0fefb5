//! Cards, feedback and used tokens.

use rusqlite::{Connection, params};
use time::OffsetDateTime;

use super::{
    Sqlite,
    rows::{all, execute, first},
};
use crate::{
    clinical::assessment::{Acknowledged, Family},
    fhir::cds::feedback::Feedback,
    store::{
        Pending,
        cards::{
            CardHistory, CardStore, Kept, RuleFeedback, ShownCard, acknowledged_until,
            rule_feedback,
        },
        codec,
        error::Result,
        keys::Hash,
        row::{self, get},
    },
};

impl CardStore for Sqlite {
    fn use_token(
        &self,
        issuer: &str,
        jti: Hash,
        expires_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Pending<'_, bool> {
        let issuer = issuer.to_owned();
        Box::pin(self.shared.write(move |connection| {
            execute(
                connection,
                "DELETE FROM jti_seen WHERE expires_at < ?1",
                params![codec::millis(now)],
            )?;
            let new = execute(
                connection,
                "INSERT INTO jti_seen (issuer, jti_hash, expires_at) VALUES (?1, ?2, ?3) \
                 ON CONFLICT DO NOTHING",
                params![issuer, jti, codec::millis(expires_at)],
            )?;
            Ok(new == 1)
        }))
    }

    fn card_history(
        &self,
        tenant: &str,
        client: &str,
        patient: Hash,
        family: &str,
    ) -> Pending<'_, CardHistory> {
        let (tenant, client, family) = (tenant.to_owned(), client.to_owned(), family.to_owned());
        Box::pin(
            self.shared.read(move |connection, _| {
                history(connection, &tenant, &client, &patient, &family)
            }),
        )
    }

    fn keep_card(&self, card: ShownCard) -> Pending<'_, ()> {
        Box::pin(self.shared.write(move |connection| keep(connection, &card)))
    }

    fn keep_feedback(
        &self,
        tenant: &str,
        feedback: Vec<Feedback>,
        now: OffsetDateTime,
    ) -> Pending<'_, Kept> {
        let tenant = tenant.to_owned();
        Box::pin(self.shared.write(move |connection| {
            let mut kept = Kept::default();
            for one in &feedback {
                take(connection, &tenant, one, now, &mut kept)?;
            }
            Ok(kept)
        }))
    }

    fn feedback_report(&self) -> Pending<'_, Vec<RuleFeedback>> {
        Box::pin(self.shared.read(move |connection, _| report(connection)))
    }
}

fn history(
    connection: &Connection,
    tenant: &str,
    client: &str,
    patient: &Hash,
    family: &str,
) -> Result<CardHistory> {
    let whose = params![tenant, patient, family, client];
    let shown = first(connection, row::SHOWN, whose, |row| row::shown(row))?;
    let whose = params![tenant, patient, family];
    let answered = first(connection, row::ANSWERED, whose, |row| row::answered(row))?;
    Ok(CardHistory { shown, answered })
}

fn keep(connection: &Connection, card: &ShownCard) -> Result<()> {
    let rules = serde_json::to_string(&card.rules).unwrap_or_default();
    let marks = serde_json::to_string(&card.marks).unwrap_or_default();
    execute(
        connection,
        "INSERT INTO card (tenant, uuid, client, key_hash, family, rules, urgency, marks, hook, \
         encounter, shown_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
         ON CONFLICT DO NOTHING",
        params![
            card.tenant,
            card.uuid,
            card.client,
            card.patient,
            card.family,
            rules,
            card.marks.urgency,
            marks,
            card.hook,
            card.encounter,
            codec::millis(card.at),
        ],
    )?;
    Ok(())
}

fn take(
    connection: &Connection,
    tenant: &str,
    feedback: &Feedback,
    now: OffsetDateTime,
    kept: &mut Kept,
) -> Result<()> {
    let card = first(
        connection,
        "SELECT key_hash, family FROM card WHERE tenant = ?1 AND uuid = ?2",
        params![tenant, feedback.card],
        |row| Ok((get::<[u8; 32]>(row, 0)?, get::<String>(row, 1)?)),
    )?;
    let Some((patient, family)) = card else {
        kept.unknown_card += 1;
        return Ok(());
    };
    // An answer from the future would keep cards away for longer than anybody decided.
    let at = feedback.at.min(now);
    let new = execute(
        connection,
        "INSERT INTO feedback (tenant, card_uuid, outcome, outcome_at, reason, received_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        params![
            tenant,
            feedback.card,
            feedback.outcome(),
            codec::millis(at),
            feedback.reason,
            codec::millis(now),
        ],
    )?;
    if new == 0 {
        kept.repeated += 1;
        return Ok(());
    }
    kept.new += 1;
    let what = feedback.acknowledges();
    if what != Acknowledged::Other && Family::from_str_exact(&family).is_some() {
        acknowledge(connection, tenant, &patient, &family, what, at, now)?;
    }
    Ok(())
}

/// Tells the finding of the family, so that the next decision knows.
fn acknowledge(
    connection: &Connection,
    tenant: &str,
    patient: &Hash,
    family: &str,
    what: Acknowledged,
    at: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<()> {
    let until = acknowledged_until(what, at);
    let touched = execute(
        connection,
        "UPDATE finding SET acknowledged_why = ?4, acknowledged_until = ?5, updated_at = ?6 \
         WHERE family = ?3 AND patient_id IN \
         (SELECT patient_id FROM patient_key WHERE tenant = ?1 AND key_hash = ?2)",
        params![
            tenant,
            patient,
            family,
            codec::acknowledged_word(what),
            until,
            codec::millis(now),
        ],
    )?;
    if touched > 0 {
        // Whoever has read the finding has to read it again.
        execute(
            connection,
            "UPDATE patient SET seq = seq + 1 WHERE id IN \
             (SELECT patient_id FROM patient_key WHERE tenant = ?1 AND key_hash = ?2)",
            params![tenant, patient],
        )?;
    }
    Ok(())
}

pub(super) fn report(connection: &Connection) -> Result<Vec<RuleFeedback>> {
    // Of several answers to one card the last one counts.
    let cards = all(connection, row::RULES_AND_ANSWERS, [], |row| {
        row::rules_and_answer(row)
    })?;
    rule_feedback(cards)
}
