-- CDS Hooks: tokens seen, cards shown, what clinicians did with them.
CREATE TABLE jti_seen (
  issuer TEXT NOT NULL,
  jti_hash BLOB NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (issuer, jti_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX jti_seen_by_expiry ON jti_seen (expires_at);

-- The tenant comes last in these keys: with it first, and one tenant, SQLite took the whole table for
-- ten rows and read all of it.
CREATE TABLE card (
  tenant TEXT NOT NULL,
  uuid TEXT NOT NULL,
  client TEXT NOT NULL,
  -- The key that ids are formed from: a chart may be opened of whom nothing was ever filed.
  key_hash BLOB NOT NULL,
  family TEXT NOT NULL,
  -- Rules it rests on (JSON list).
  rules TEXT NOT NULL,
  urgency INTEGER NOT NULL,
  -- What an escalation is measured by (JSON).
  marks TEXT NOT NULL,
  hook TEXT NOT NULL,
  encounter TEXT,
  shown_at INTEGER NOT NULL,
  PRIMARY KEY (uuid, tenant)
) STRICT, WITHOUT ROWID;
CREATE INDEX card_by_patient ON card (key_hash, family, tenant);

CREATE TABLE feedback (
  tenant TEXT NOT NULL,
  card_uuid TEXT NOT NULL,
  outcome TEXT NOT NULL,
  outcome_at INTEGER NOT NULL,
  reason TEXT,
  received_at INTEGER NOT NULL,
  PRIMARY KEY (card_uuid, tenant, outcome, outcome_at)
) STRICT, WITHOUT ROWID;
