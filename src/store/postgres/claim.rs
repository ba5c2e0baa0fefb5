//! Whether a submission was seen before, and what follows.

use tokio_postgres::types::ToSql;

use super::{
    connection::{Connection, Tried},
    resolve::held_versions,
};
use crate::store::{
    plan,
    row::{self, Earlier, GiveUp},
    submission::{Accepted, EnvelopeKind, Incoming},
};

/// What follows.
pub(super) enum Claim {
    Answer(Accepted),
    Go {
        give_up: Vec<GiveUp>,
        envelope_seen: bool,
    },
}

/// Which key.
#[derive(Clone, Copy)]
enum By {
    IdempotencyKey,
    Content,
    Envelope,
}

/// Look at what has our keys.
pub(super) async fn look(connection: &Connection, incoming: &Incoming) -> Tried<Claim> {
    let claims = &incoming.claims;
    let now = incoming.received_at;
    let mut give_up = Vec::new();
    let mut envelope_seen = false;
    if claims.idempotency_key.is_some()
        && let Some(row) = earlier(connection, incoming, By::IdempotencyKey).await?
    {
        if row.is_expired(now) {
            give_up.push(GiveUp::IdempotencyKey(row.id));
        } else if row.fingerprint != claims.fingerprint {
            return Ok(Claim::Answer(Accepted::KeyReused));
        } else {
            return replay(&row);
        }
    }
    let envelope = match &claims.envelope {
        Some(envelope) => earlier(connection, incoming, By::Envelope)
            .await?
            .map(|row| (row, &envelope.kind)),
        None => None,
    };
    if let Some((row, EnvelopeKind::Message { header })) = &envelope
        && !row.is_expired(now)
    {
        return if row.detail.as_deref() == Some(header) {
            replay(row)
        } else {
            Ok(Claim::Answer(Accepted::EnvelopeReused))
        };
    }
    if claims.by_content
        && let Some(row) = earlier(connection, incoming, By::Content).await?
    {
        if !row.is_expired(now) && still_stands(connection, &row).await? {
            return replay(&row);
        }
        give_up.push(GiveUp::Content(row.id));
    }
    if let Some((row, kind)) = envelope {
        if !row.is_expired(now) {
            let held = row.detail.as_deref().and_then(|text| text.parse().ok());
            if let (EnvelopeKind::Document { timestamp }, Some(held)) = (kind, held)
                && timestamp.unix_timestamp_nanos() < held
            {
                return Ok(Claim::Answer(Accepted::OlderDocument));
            }
            envelope_seen = true;
        }
        give_up.push(GiveUp::Envelope(row.id));
    }
    Ok(Claim::Go {
        give_up,
        envelope_seen,
    })
}

fn replay(row: &Earlier) -> Tried<Claim> {
    Ok(Claim::Answer(Accepted::Replayed {
        receipt: row.receipt()?,
    }))
}

async fn earlier(connection: &Connection, incoming: &Incoming, by: By) -> Tried<Option<Earlier>> {
    let claims = &incoming.claims;
    let envelope = claims
        .envelope
        .as_ref()
        .map(|envelope| envelope.key.as_slice());
    let content = claims.fingerprint.as_slice();
    let (name, key): (_, &(dyn ToSql + Sync)) = match by {
        By::IdempotencyKey => ("idem_key", &claims.idempotency_key),
        By::Content => ("content_hash", &content),
        By::Envelope => ("envelope_key", &envelope),
    };
    let sql = format!("{} {name} = $3", row::EARLIER_SUBMISSION);
    let whose: [&(dyn ToSql + Sync); 3] =
        [&incoming.tenant.as_ref(), &incoming.client.as_ref(), key];
    connection.one(&sql, &whose, row::earlier).await
}

/// A repeat is answered from the store only while nothing it wrote, or found as it says, has been
/// changed by another submission: a laboratory may go from 9.0 to 8.0 and back to 9.0.
async fn still_stands(connection: &Connection, row: &Earlier) -> Tried<bool> {
    if connection.first(row::MOVED, &[&row.id]).await?.is_some() {
        return Ok(false);
    }
    let unchanged: Vec<_> =
        plan::unpack_unchanged(row.unchanged.as_deref().unwrap_or_default()).collect();
    let asked: Vec<_> = unchanged
        .iter()
        .map(|(patient, result, _)| (*patient, *result))
        .collect();
    let held = held_versions(connection, &asked).await?;
    Ok(unchanged
        .iter()
        .zip(held)
        .all(|((_, _, version), held)| held == Some(*version)))
}
