//! Cards, feedback and used tokens.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio_postgres::types::ToSql;

use super::{
    Postgres,
    connection::{Connection, Millis, Tried, read, write},
    rows::text,
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
        keys::Hash,
        row::{self, get},
    },
};

impl CardStore for Postgres {
    fn use_token(
        &self,
        issuer: &str,
        jti: Hash,
        expires_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Pending<'_, bool> {
        // What is locked is being cleared by another.
        const CLEAR: &str = "DELETE FROM jti_seen WHERE (issuer, jti_hash) IN \
             (SELECT issuer, jti_hash FROM jti_seen WHERE expires_at < $1 LIMIT 100 \
             FOR UPDATE SKIP LOCKED)";
        const USE: &str = "INSERT INTO jti_seen (issuer, jti_hash, expires_at) \
             VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let (shared, issuer) = (Arc::clone(&self.shared), issuer.to_owned());
        let (now, expires_at) = (
            Millis(codec::millis(now)),
            Millis(codec::millis(expires_at)),
        );
        self.spawn(async move {
            write(&shared.working, move |connection| {
                let issuer = issuer.clone();
                Box::pin(async move {
                    connection.run(CLEAR, &[&now]).await?;
                    let new = connection
                        .run(USE, &[&text(&issuer), &jti.as_slice(), &expires_at])
                        .await?;
                    Ok(new == 1)
                })
            })
            .await
        })
    }

    fn card_history(
        &self,
        tenant: &str,
        client: &str,
        patient: Hash,
        family: &str,
    ) -> Pending<'_, CardHistory> {
        let shared = Arc::clone(&self.shared);
        let (tenant, client, family) = (tenant.to_owned(), client.to_owned(), family.to_owned());
        self.spawn(async move {
            read(&shared.working, |connection| {
                Box::pin(
                    async move { history(connection, &tenant, &client, &patient, &family).await },
                )
            })
            .await
        })
    }

    fn keep_card(&self, card: ShownCard) -> Pending<'_, ()> {
        let (shared, card) = (Arc::clone(&self.shared), Arc::new(card));
        self.spawn(async move {
            write(&shared.working, move |connection| {
                let card = Arc::clone(&card);
                Box::pin(async move { keep(connection, &card).await })
            })
            .await
        })
    }

    fn keep_feedback(
        &self,
        tenant: &str,
        feedback: Vec<Feedback>,
        now: OffsetDateTime,
    ) -> Pending<'_, Kept> {
        let shared = Arc::clone(&self.shared);
        let work = Arc::new((tenant.to_owned(), feedback));
        self.spawn(async move {
            write(&shared.working, move |connection| {
                let work = Arc::clone(&work);
                Box::pin(async move {
                    let (tenant, feedback) = &*work;
                    let mut kept = Kept::default();
                    for one in feedback {
                        take(connection, tenant, one, now, &mut kept).await?;
                    }
                    Ok(kept)
                })
            })
            .await
        })
    }

    fn feedback_report(&self) -> Pending<'_, Vec<RuleFeedback>> {
        let shared = Arc::clone(&self.shared);
        self.spawn(
            async move { read(&shared.working, |connection| Box::pin(report(connection))).await },
        )
    }
}

async fn history(
    connection: &Connection,
    tenant: &str,
    client: &str,
    patient: &Hash,
    family: &str,
) -> Tried<CardHistory> {
    let key = patient.as_slice();
    let shown: [&(dyn ToSql + Sync); 4] = [&tenant, &key, &family, &client];
    let answered: [&(dyn ToSql + Sync); 3] = [&tenant, &key, &family];
    Ok(CardHistory {
        shown: connection.one(row::SHOWN, &shown, row::shown).await?,
        answered: connection
            .one(row::ANSWERED, &answered, row::answered)
            .await?,
    })
}

async fn keep(connection: &Connection, card: &ShownCard) -> Tried<()> {
    const INSERT: &str = "INSERT INTO card (tenant, uuid, client, key_hash, family, rules, \
         urgency, marks, hook, encounter, shown_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING";
    connection
        .run(
            INSERT,
            &[
                &card.tenant,
                &card.uuid,
                &card.client,
                &card.patient.as_slice(),
                &card.family,
                &codec::json(&card.rules)?,
                &i64::from(card.marks.urgency),
                &codec::json(&card.marks)?,
                &card.hook,
                &card.encounter.as_deref().map(text),
                &Millis(codec::millis(card.at)),
            ],
        )
        .await?;
    Ok(())
}

async fn take(
    connection: &Connection,
    tenant: &str,
    feedback: &Feedback,
    now: OffsetDateTime,
    kept: &mut Kept,
) -> Tried<()> {
    const CARD: &str = "SELECT key_hash, family FROM card WHERE tenant = $1 AND uuid = $2";
    const INSERT: &str = "INSERT INTO feedback (tenant, card_uuid, outcome, outcome_at, reason, \
         received_at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
    let Some(card) = connection
        .first(CARD, &[&tenant, &text(&feedback.card)])
        .await?
    else {
        kept.unknown_card += 1;
        return Ok(());
    };
    let patient: Hash = get(&card, 0)?;
    let family: &str = get(&card, 1)?;
    // An answer from the future would keep cards away for longer than anybody decided.
    let at = feedback.at.min(now);
    let new = connection
        .run(
            INSERT,
            &[
                &tenant,
                &feedback.card,
                &feedback.outcome(),
                &Millis(codec::millis(at)),
                &feedback.reason,
                &Millis(codec::millis(now)),
            ],
        )
        .await?;
    if new == 0 {
        kept.repeated += 1;
        return Ok(());
    }
    kept.new += 1;
    let what = feedback.acknowledges();
    if what != Acknowledged::Other && Family::from_str_exact(family).is_some() {
        acknowledge(connection, tenant, &patient, family, what, at, now).await?;
    }
    Ok(())
}

/// Tells the finding of the family, so that the next decision knows.
async fn acknowledge(
    connection: &Connection,
    tenant: &str,
    patient: &Hash,
    family: &str,
    what: Acknowledged,
    at: OffsetDateTime,
    now: OffsetDateTime,
) -> Tried<()> {
    // The order goes on, and the patient is locked: a decision under way comes before or after.
    const PATIENT: &str = "UPDATE patient SET seq = seq + 1 WHERE id IN \
         (SELECT patient_id FROM patient_key WHERE tenant = $1 AND key_hash = $2) RETURNING id";
    const FINDING: &str = "UPDATE finding SET acknowledged_why = $3, acknowledged_until = $4, \
         updated_at = $5 WHERE patient_id = $1 AND family = $2";
    let patients = connection
        .all(PATIENT, &[&tenant, &patient.as_slice()])
        .await?;
    for row in &patients {
        connection
            .run(
                FINDING,
                &[
                    &get::<i64>(row, 0)?,
                    &family,
                    &codec::acknowledged_word(what),
                    &Millis(acknowledged_until(what, at)),
                    &Millis(codec::millis(now)),
                ],
            )
            .await?;
    }
    Ok(())
}

pub(super) async fn report(connection: &Connection) -> Tried<Vec<RuleFeedback>> {
    let cards = connection
        .list(row::RULES_AND_ANSWERS, &[], row::rules_and_answer)
        .await?;
    Ok(rule_feedback(cards)?)
}
