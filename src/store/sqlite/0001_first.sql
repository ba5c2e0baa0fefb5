-- Times are milliseconds since 1970 (UTC), bodies are zstd, hashes are the bytes themselves.

CREATE TABLE instance (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  identity_key_fingerprint BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  -- 1 while nobody has the file open for writing: then a start need not look for damage.
  stopped_cleanly INTEGER NOT NULL
) STRICT;

CREATE TABLE patient (
  id INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  -- The key that ids are formed from: the first ever seen, it never changes.
  key_hash BLOB NOT NULL,
  -- {"identifiers": [[system, value]], "references": [...]}: what a FHIR server is asked for.
  identifiers TEXT NOT NULL,
  birth_date TEXT,
  sex TEXT,
  deceased INTEGER NOT NULL DEFAULT 0,
  deceased_at INTEGER,
  -- Rare facts about the person and pregnancies (JSON).
  traits TEXT,
  last_as_of INTEGER,
  -- Counts what was committed for this patient; whoever changes what a decision reads raises it.
  seq INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX patient_by_key ON patient (tenant, key_hash);

CREATE TABLE patient_key (
  tenant TEXT NOT NULL,
  key_hash BLOB NOT NULL,
  patient_id INTEGER NOT NULL REFERENCES patient (id),
  PRIMARY KEY (tenant, key_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX patient_key_by_patient ON patient_key (patient_id);

CREATE TABLE inbox (
  id INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  client TEXT NOT NULL,
  kind TEXT NOT NULL,
  idem_key TEXT,
  fingerprint BLOB NOT NULL,
  content_hash BLOB,
  envelope_key BLOB,
  -- Timestamp of a document, id of a message header: what decides about a repeated envelope.
  envelope_detail TEXT,
  request_id TEXT NOT NULL,
  received_at INTEGER NOT NULL,
  -- What the submission found unchanged: patient, key and version, so that a repeat is answered
  -- from here only while all of it still stands.
  unchanged BLOB,
  receipt BLOB,
  expires_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX inbox_by_idem_key ON inbox (tenant, client, idem_key) WHERE idem_key IS NOT NULL;
CREATE UNIQUE INDEX inbox_by_content ON inbox (tenant, client, content_hash) WHERE content_hash IS NOT NULL;
CREATE UNIQUE INDEX inbox_by_envelope ON inbox (tenant, client, envelope_key) WHERE envelope_key IS NOT NULL;
CREATE INDEX inbox_by_expiry ON inbox (expires_at) WHERE receipt IS NOT NULL;

-- The resources of one patient in one submission, one JSON text per line.
CREATE TABLE inbox_patient (
  patient_id INTEGER NOT NULL,
  patient_seq INTEGER NOT NULL,
  inbox_id INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (patient_id, patient_seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX inbox_patient_by_inbox ON inbox_patient (inbox_id);

-- A row per value, and one for an Observation without a value of its own. Rows of one
-- Observation share patient_seq and ordinal, which say where its text is.
CREATE TABLE observation (
  patient_id INTEGER NOT NULL,
  l3_key BLOB NOT NULL,
  version INTEGER NOT NULL,
  content BLOB NOT NULL,
  status TEXT NOT NULL,
  issued_at INTEGER,
  source_version TEXT,
  patient_seq INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  filed_at INTEGER NOT NULL,
  code TEXT,
  analyte TEXT,
  value TEXT,
  unit TEXT,
  value_si TEXT,
  effective_at INTEGER,
  effective_offset INTEGER,
  effective_precision TEXT,
  usable INTEGER NOT NULL,
  why_not TEXT,
  why_text TEXT,
  state TEXT,
  specimen TEXT,
  report TEXT,
  preference INTEGER,
  -- Method, draw, problems, cells counted, interpretation, upper limit, where not ordinary (JSON).
  detail TEXT,
  identifier_system TEXT,
  identifier_value TEXT,
  loinc TEXT,
  PRIMARY KEY (patient_id, l3_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE observation_version (
  patient_id INTEGER NOT NULL,
  l3_key BLOB NOT NULL,
  version INTEGER NOT NULL,
  content BLOB NOT NULL,
  status TEXT NOT NULL,
  issued_at INTEGER,
  source_version TEXT,
  patient_seq INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  filed_at INTEGER NOT NULL,
  code TEXT,
  analyte TEXT,
  value TEXT,
  unit TEXT,
  value_si TEXT,
  effective_at INTEGER,
  effective_offset INTEGER,
  effective_precision TEXT,
  usable INTEGER NOT NULL,
  why_not TEXT,
  why_text TEXT,
  state TEXT,
  specimen TEXT,
  report TEXT,
  preference INTEGER,
  detail TEXT,
  identifier_system TEXT,
  identifier_value TEXT,
  loinc TEXT,
  PRIMARY KEY (patient_id, l3_key, version)
) STRICT, WITHOUT ROWID;

-- The id a client gave by PUT, beside our own.
CREATE TABLE observation_alias (
  tenant TEXT NOT NULL,
  client TEXT NOT NULL,
  kind TEXT NOT NULL,
  client_id TEXT NOT NULL,
  patient_id INTEGER NOT NULL,
  l3_key BLOB NOT NULL,
  PRIMARY KEY (tenant, client, kind, client_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX observation_alias_by_patient ON observation_alias (patient_id, l3_key);

-- What gives a finding token: Condition, drug, procedure, relative, coded Observation.
CREATE TABLE fact (
  patient_id INTEGER NOT NULL,
  key BLOB NOT NULL,
  version INTEGER NOT NULL,
  content BLOB NOT NULL,
  fhir_type TEXT NOT NULL,
  status TEXT NOT NULL,
  issued_at INTEGER,
  source_version TEXT,
  tokens TEXT NOT NULL,
  filed_at INTEGER NOT NULL,
  patient_seq INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  PRIMARY KEY (patient_id, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE finding (
  id INTEGER PRIMARY KEY,
  patient_id INTEGER NOT NULL,
  family TEXT NOT NULL,
  state TEXT NOT NULL,
  slug TEXT NOT NULL,
  grade TEXT,
  lineage_grades TEXT NOT NULL,
  urgency INTEGER NOT NULL,
  episode_start INTEGER NOT NULL,
  episode_start_detail TEXT NOT NULL,
  episode_end INTEGER,
  episode_end_detail TEXT,
  notified_at INTEGER,
  acknowledged_until INTEGER,
  acknowledged_why TEXT,
  -- Version and id of its Flag.
  revision INTEGER NOT NULL,
  flag_id TEXT,
  human_hash TEXT,
  updated_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX finding_by_patient ON finding (patient_id, family);
CREATE INDEX finding_by_flag ON finding (flag_id) WHERE flag_id IS NOT NULL;

CREATE TABLE resource (
  fhir_type TEXT NOT NULL,
  fhir_id TEXT NOT NULL,
  version INTEGER NOT NULL,
  -- NULL: of no patient (Device).
  patient_id INTEGER,
  identifier_system TEXT,
  identifier_value TEXT,
  content_hash TEXT NOT NULL,
  last_updated INTEGER NOT NULL,
  body BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX resource_by_version ON resource (fhir_type, fhir_id, version);
CREATE INDEX resource_by_patient ON resource (patient_id, fhir_type);
CREATE INDEX resource_by_time ON resource (fhir_type, last_updated);

CREATE TABLE target (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  base_url TEXT NOT NULL,
  capability TEXT,
  capability_at INTEGER,
  hold TEXT,
  hold_since INTEGER
) STRICT;
CREATE UNIQUE INDEX target_by_name ON target (name);
CREATE UNIQUE INDEX target_by_url ON target (base_url);

-- One patient on one target: the unit of order and of leasing. Never deleted while the patient
-- exists, so that its fence only grows.
CREATE TABLE lane (
  target_id INTEGER NOT NULL,
  patient_id INTEGER NOT NULL,
  due_at INTEGER,
  scheduled_at INTEGER,
  priority INTEGER NOT NULL,
  owner TEXT,
  fence INTEGER NOT NULL,
  verify_first INTEGER NOT NULL,
  PRIMARY KEY (target_id, patient_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX lane_by_priority ON lane (target_id, priority DESC, due_at) WHERE due_at IS NOT NULL AND owner IS NULL;
CREATE INDEX lane_by_due ON lane (target_id, due_at) WHERE due_at IS NOT NULL AND owner IS NULL;
CREATE INDEX lane_leased ON lane (owner) WHERE owner IS NOT NULL;

CREATE TABLE delivery (
  id INTEGER PRIMARY KEY,
  target_id INTEGER NOT NULL,
  patient_id INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  part INTEGER NOT NULL,
  urgency INTEGER NOT NULL,
  state TEXT NOT NULL,
  -- What comes before the next request: verify, token, capability, reread.
  before TEXT,
  attempt INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  -- Made, or settled last.
  waiting_since INTEGER NOT NULL,
  settled_at INTEGER,
  parked_reason TEXT,
  parked_at INTEGER,
  recheck_at INTEGER,
  reachable_ms INTEGER NOT NULL,
  correlation_id TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX delivery_by_order ON delivery (target_id, patient_id, seq, part);
CREATE INDEX delivery_open ON delivery (target_id, patient_id, seq, part) WHERE state IN ('queued', 'in_flight', 'later');
CREATE INDEX delivery_parked ON delivery (parked_at) WHERE state = 'parked';
CREATE INDEX delivery_recheck ON delivery (recheck_at) WHERE state = 'parked' AND recheck_at IS NOT NULL;

-- The text of an item is the version of the resource that it names: kept once.
CREATE TABLE delivery_item (
  delivery_id INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  fhir_type TEXT NOT NULL,
  fhir_id TEXT NOT NULL,
  revision INTEGER NOT NULL,
  content_hash TEXT NOT NULL,
  state TEXT NOT NULL,
  outranks_human INTEGER NOT NULL,
  PRIMARY KEY (delivery_id, ordinal)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_item_by_resource ON delivery_item (fhir_type, fhir_id, revision);

CREATE TABLE delivery_attempt (
  id INTEGER PRIMARY KEY,
  delivery_id INTEGER NOT NULL,
  number INTEGER NOT NULL,
  replica TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at INTEGER NOT NULL,
  class TEXT NOT NULL,
  http_status INTEGER,
  outcome_code TEXT,
  retry_after_ms INTEGER,
  reply TEXT
) STRICT;
CREATE INDEX delivery_attempt_by_end ON delivery_attempt (ended_at);
CREATE INDEX delivery_attempt_by_delivery ON delivery_attempt (delivery_id, number);

CREATE TABLE remote_resource (
  target_id INTEGER NOT NULL,
  fhir_type TEXT NOT NULL,
  fhir_id TEXT NOT NULL,
  remote_id TEXT NOT NULL,
  etag TEXT,
  written_hash TEXT NOT NULL,
  written_revision INTEGER NOT NULL,
  seen_at INTEGER NOT NULL,
  PRIMARY KEY (target_id, fhir_type, fhir_id)
) STRICT, WITHOUT ROWID;
