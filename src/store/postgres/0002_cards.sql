-- CDS Hooks: tokens seen, cards shown, what clinicians did with them.
CREATE TABLE jti_seen (
  issuer text NOT NULL,
  jti_hash bytea NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (issuer, jti_hash)
);
CREATE INDEX jti_seen_by_expiry ON jti_seen (expires_at);

CREATE TABLE card (
  tenant text NOT NULL,
  uuid text NOT NULL,
  client text NOT NULL,
  -- The key that ids are formed from: a chart may be opened of whom nothing was ever filed.
  key_hash bytea NOT NULL,
  family text NOT NULL,
  -- Rules it rests on (JSON list).
  rules text NOT NULL,
  urgency bigint NOT NULL,
  -- What an escalation is measured by (JSON).
  marks text NOT NULL,
  hook text NOT NULL,
  encounter text,
  shown_at timestamptz NOT NULL,
  PRIMARY KEY (tenant, uuid)
);
CREATE INDEX card_by_patient ON card (tenant, key_hash, family);

CREATE TABLE feedback (
  tenant text NOT NULL,
  card_uuid text NOT NULL,
  outcome text NOT NULL,
  outcome_at timestamptz NOT NULL,
  reason text,
  received_at timestamptz NOT NULL,
  PRIMARY KEY (tenant, card_uuid, outcome, outcome_at)
);
