//! Whether a submission was seen before, and what follows.

use std::borrow::Cow;

use super::{
    connection::{Connection, Millis, Tried, bytes, column},
    resolve::held_versions,
};
use crate::store::{
    codec,
    error::StoreError,
    plan,
    submission::{Accepted, EnvelopeKind, Incoming},
};

/// An older row gives up what identified it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GiveUp {
    IdempotencyKey(i64),
    Content(i64),
    Envelope(i64),
}

/// What follows.
pub(super) enum Claim {
    Answer(Accepted),
    Go {
        give_up: Vec<GiveUp>,
        envelope_seen: bool,
    },
}

/// A row of the inbox that has one of our keys.
struct Earlier {
    id: i64,
    fingerprint: [u8; 32],
    detail: Option<String>,
    receipt: Option<Vec<u8>>,
    unchanged: Option<Vec<u8>>,
    expired: bool,
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
    let mut give_up = Vec::new();
    let mut envelope_seen = false;
    if claims.idempotency_key.is_some()
        && let Some(row) = earlier(connection, incoming, By::IdempotencyKey).await?
    {
        if row.expired {
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
        && !row.expired
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
        if !row.expired && still_stands(connection, &row).await? {
            return replay(&row);
        }
        give_up.push(GiveUp::Content(row.id));
    }
    if let Some((row, kind)) = envelope {
        if !row.expired {
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
    let receipt = row
        .receipt
        .as_deref()
        .ok_or(StoreError::Unreadable("an inbox row without receipt"))?;
    Ok(Claim::Answer(Accepted::Replayed {
        receipt: codec::decompress(receipt)?,
    }))
}

async fn earlier(connection: &Connection, incoming: &Incoming, by: By) -> Tried<Option<Earlier>> {
    const COLUMNS: &str = "SELECT id, fingerprint, envelope_detail, receipt, unchanged, \
         expires_at FROM inbox WHERE tenant = $1 AND client = $2 AND";
    let claims = &incoming.claims;
    let (tenant, client) = (incoming.tenant.as_ref(), incoming.client.as_ref());
    let row = match by {
        By::IdempotencyKey => {
            let sql = format!("{COLUMNS} idem_key = $3");
            connection
                .first(&sql, &[&tenant, &client, &claims.idempotency_key])
                .await?
        }
        By::Content => {
            let sql = format!("{COLUMNS} content_hash = $3");
            connection
                .first(&sql, &[&tenant, &client, &claims.fingerprint.as_slice()])
                .await?
        }
        By::Envelope => {
            let sql = format!("{COLUMNS} envelope_key = $3");
            let key = claims
                .envelope
                .as_ref()
                .map(|envelope| Cow::Borrowed(envelope.key.as_slice()));
            connection
                .first(&sql, &[&tenant, &client, &key.as_deref()])
                .await?
        }
    };
    let Some(row) = row else {
        return Ok(None);
    };
    Ok(Some(Earlier {
        id: column(&row, 0)?,
        fingerprint: bytes(&row, 1)?,
        detail: column(&row, 2)?,
        receipt: column(&row, 3)?,
        unchanged: column(&row, 4)?,
        expired: column::<Millis>(&row, 5)?.0 <= codec::millis(incoming.received_at),
    }))
}

/// A repeat is answered from the store only while nothing it wrote, or found as it says, has been
/// changed by another submission: a laboratory may go from 9.0 to 8.0 and back to 9.0.
async fn still_stands(connection: &Connection, row: &Earlier) -> Tried<bool> {
    const MOVED: &str = "SELECT 1 FROM inbox_patient AS mine JOIN observation_version AS old \
         ON old.patient_id = mine.patient_id AND old.patient_seq = mine.patient_seq \
         WHERE mine.inbox_id = $1 LIMIT 1";
    if connection.first(MOVED, &[&row.id]).await?.is_some() {
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
