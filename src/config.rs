//! Every setting, once: the command line, its twin in the environment, and secrets read from files.
//!
//! `marrowflag --help` is the documentation. Nothing else in this crate reads the environment.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "marrowflag",
    version,
    about = "Reads blood counts as FHIR and describes suspected bone-marrow-failure patterns",
    long_about = "Reads blood counts as FHIR, assesses the patient's whole timeline against a cytopenia model, \
        and writes a DiagnosticReport and, where it deserves attention, a Flag.\n\n\
        Decision support for clinicians. It never diagnoses and is not a medical device.",
    after_help = "Examples:\n  \
        marrowflag serve\n  \
        marrowflag assess --format text fixtures/bundles/pancytopenia.json\n  \
        marrowflag read fixtures/bundles/pancytopenia.json\n  \
        marrowflag rules | less"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What is logged to standard error: error, warn, info, debug, trace. Never patient data.
    #[arg(
        long,
        global = true,
        env = "MARROWFLAG_LOG",
        default_value = "info",
        value_name = "LEVEL"
    )]
    pub log: String,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service: blood counts in over FHIR, findings out
    #[command(
        after_help = "Example:\n  marrowflag serve --listen 127.0.0.1:8080\n  \
        curl -H 'Content-Type: application/fhir+json' --data-binary @fixtures/bundles/pancytopenia.json http://127.0.0.1:8080/fhir"
    )]
    Serve(Box<Serve>),
    /// Assess one Bundle, resource or NDJSON file; nothing is stored or sent
    #[command(
        after_help = "Example:\n  marrowflag assess --format text --explain fixtures/bundles/pancytopenia.json\n\n\
        Exit codes: 0 assessed (with findings or none), 2 unreadable, 3 not valid FHIR or not our profile."
    )]
    Assess(Assess),
    /// Show what was understood and what was not, one row per value
    #[command(
        after_help = "Example:\n  marrowflag read --format csv fixtures/bundles/pancytopenia.json"
    )]
    Read(Read),
    /// Check against the base specification and our profiles
    #[command(
        after_help = "Example:\n  marrowflag validate fixtures/bundles/pancytopenia.json\n\n\
        Exit codes: 0 no error, 1 at least one error."
    )]
    Validate(Validate),
    /// Print the rule book as it is compiled in
    #[command(after_help = "Example:\n  marrowflag rules --format json")]
    Rules(Rules),
    /// List the profiles, or write them into a directory
    #[command(after_help = "Example:\n  marrowflag profiles --write schemas/")]
    Profiles(Profiles),
    /// Deliveries to the FHIR server: list and show read the database, retry and discard ask the service
    #[command(
        subcommand,
        after_help = "Example:\n  marrowflag deliveries list\n  marrowflag deliveries retry 17"
    )]
    Deliveries(Deliveries),
    /// A patient's data, on request
    #[command(
        subcommand,
        after_help = "Example:\n  marrowflag patients delete Patient/p1\n  \
        echo 'https://hospital.example/mrn|4711' | marrowflag patients delete -"
    )]
    Patients(Patients),
    /// Copy the database of a running service, with its identity key beside the copy
    #[command(after_help = "Example:\n  marrowflag backup /backup/2026-11-21.db\n\n\
        Restored: copy both files into place, marrowflag serve --database sqlite:FILE --restored")]
    Backup(Backup),
    /// What clinicians did with the cards of CDS Hooks, rule by rule
    #[command(after_help = "Example:\n  marrowflag feedback --format ndjson")]
    Feedback(Feedback),
}

/// The time an assessment is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AsOf {
    /// The clock, when the results come in.
    Received,
    /// The newest specimen of the patient's timeline: for test harnesses and for loading history.
    Sampled,
}

/// Settings of the service.
#[derive(Debug, Clone, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are the flags of a command line"
)]
pub struct Serve {
    /// Address to listen on; port 0 picks a free one
    #[arg(
        long,
        env = "MARROWFLAG_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDR"
    )]
    pub listen: SocketAddr,
    /// Die at this point when it is come to for the so-manieth time: NAME=TIMES
    #[cfg(feature = "fault-injection")]
    #[arg(long, env = "MARROWFLAG_CRASH_AT", hide = true)]
    pub crash_at: Option<String>,
    /// Where everything is kept
    #[arg(
        long,
        env = "MARROWFLAG_DATABASE",
        default_value = "sqlite:marrowflag.db",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub database: Database,
    /// FHIR server that findings are written to; without it only our own endpoint serves them
    #[arg(long, env = "MARROWFLAG_FHIR_SERVER", value_name = "URL")]
    pub fhir_server: Option<reqwest::Url>,
    /// File with the bearer token for the FHIR server
    #[arg(
        long,
        env = "MARROWFLAG_FHIR_SERVER_TOKEN_FILE",
        value_name = "FILE",
        requires = "fhir_server"
    )]
    pub fhir_server_token_file: Option<PathBuf>,
    /// SMART Backend Services client at the FHIR server, instead of a token; TOML: `client_id`,
    /// and [[keys]] with `kid`, `alg` (RS384 or ES384) and `file` (private key, PEM)
    #[arg(
        long,
        env = "MARROWFLAG_FHIR_SERVER_SMART",
        value_name = "FILE",
        requires = "fhir_server",
        conflicts_with = "fhir_server_token_file"
    )]
    pub fhir_server_smart: Option<PathBuf>,
    /// Certificates for the connection to the FHIR server.
    #[command(flatten)]
    pub fhir_server_tls: FhirServerTls,
    /// Requests a second that the FHIR server is asked to take, at most; processes on one database share them
    #[arg(long, env = "MARROWFLAG_FHIR_SERVER_RATE", default_value_t = 20, value_name = "N",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub fhir_server_rate: usize,
    /// What links and Locations are made of [default: http:// and the address listened on]
    #[arg(long, env = "MARROWFLAG_PUBLIC_BASE_URL", value_name = "URL")]
    pub public_base_url: Option<reqwest::Url>,
    /// The time an assessment is made for
    #[arg(long, env = "MARROWFLAG_AS_OF", value_enum, default_value = "received")]
    pub as_of: AsOf,
    /// File with the secret that ids are derived with; part of every backup
    /// [default: beside the database, made at the first start]
    #[arg(long, env = "MARROWFLAG_IDENTITY_KEY_FILE", value_name = "FILE")]
    pub identity_key_file: Option<PathBuf>,
    /// Logical identifier of the organization that performs the assessment
    #[arg(long, env = "MARROWFLAG_ORGANIZATION", value_name = "SYSTEM|VALUE")]
    pub organization: Option<Identifier>,
    /// Also write the derived grade of each blood line to the FHIR server
    #[arg(long, env = "MARROWFLAG_WRITE_OBSERVATIONS")]
    pub write_observations: bool,
    /// Local codes to LOINC, a FHIR concept map
    #[arg(long, env = "MARROWFLAG_CODE_MAP", value_name = "FILE")]
    pub code_map: Option<PathBuf>,
    /// Who may call the CDS Hooks services, with their keys, FHIR servers and web pages (TOML);
    /// the other doors do not ask yet
    #[arg(long, env = "MARROWFLAG_CLIENTS", value_name = "FILE")]
    pub clients: Option<PathBuf>,
    /// Add SNOMED CT codings (needs a licence where you are; see the README)
    #[arg(long, env = "MARROWFLAG_SNOMED")]
    pub snomed: bool,
    /// Listen beyond loopback although nobody is asked who they are
    #[arg(long, env = "MARROWFLAG_INSECURE")]
    pub insecure: bool,
    /// How long a repeat is answered with its receipt, in hours; at least 1
    #[arg(long, env = "MARROWFLAG_RECEIPT_RETENTION", default_value_t = 24, value_name = "HOURS",
        value_parser = clap::value_parser!(u32).range(1..=8760))]
    pub receipt_retention: u32,
    /// How long counts and facts are kept, in days; the rules look back up to three years
    #[arg(long, env = "MARROWFLAG_RETENTION", default_value_t = 1200, value_name = "DAYS",
        value_parser = clap::value_parser!(u32).range(30..=36_500))]
    pub retention: u32,
    /// How long findings, what was made of them, cards and feedback are kept, in years
    #[arg(long, env = "MARROWFLAG_FINDINGS_RETENTION", default_value_t = 10, value_name = "YEARS",
        value_parser = clap::value_parser!(u32).range(1..=100))]
    pub findings_retention: u32,
    /// On a restored copy, until the senders have sent again what it does not know: read every Flag
    /// and report on the FHIR server before it is written, and wait where it is newer than the copy
    #[arg(long, env = "MARROWFLAG_RESTORED")]
    pub restored: bool,
    /// Limits.
    #[command(flatten)]
    pub limits: Limits,
}

/// Certificates for the connection to the FHIR server. Read again within a minute when they change.
#[derive(Debug, Clone, Default, Args)]
pub struct FhirServerTls {
    /// Our certificate and its chain (PEM), for a FHIR server that asks who connects
    #[arg(
        id = "fhir_server_client_cert",
        long = "fhir-server-client-cert",
        env = "MARROWFLAG_FHIR_SERVER_CLIENT_CERT",
        value_name = "FILE",
        requires = "fhir_server",
        requires = "fhir_server_client_key"
    )]
    pub client_cert: Option<PathBuf>,
    /// The private key of our certificate (PEM)
    #[arg(
        id = "fhir_server_client_key",
        long = "fhir-server-client-key",
        env = "MARROWFLAG_FHIR_SERVER_CLIENT_KEY",
        value_name = "FILE",
        requires = "fhir_server_client_cert"
    )]
    pub client_key: Option<PathBuf>,
    /// Certificate authorities to believe about the FHIR server (PEM) [default: those of this machine]
    #[arg(
        id = "fhir_server_ca",
        long = "fhir-server-ca",
        env = "MARROWFLAG_FHIR_SERVER_CA",
        value_name = "FILE",
        requires = "fhir_server"
    )]
    pub ca: Option<PathBuf>,
}

/// What one sender, or all together, may ask for.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Size of a body after decompression
    #[arg(long, env = "MARROWFLAG_MAX_BODY", default_value = "8MiB", value_parser = bytes, value_name = "SIZE")]
    pub max_body: usize,
    /// Entries of a Bundle
    #[arg(long, env = "MARROWFLAG_MAX_ENTRIES", default_value_t = 1000, value_name = "N",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub max_entries: usize,
    /// Open connections
    #[arg(long, env = "MARROWFLAG_MAX_CONNECTIONS", default_value_t = 16_384, value_name = "N",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub max_connections: usize,
    /// Bytes of all bodies that are being worked on
    #[arg(long, env = "MARROWFLAG_MAX_INFLIGHT_BYTES", default_value = "64MiB", value_parser = bytes, value_name = "SIZE")]
    pub max_inflight_bytes: usize,
    /// Submissions that may wait to be stored
    #[arg(long, env = "MARROWFLAG_QUEUE", default_value_t = 1024, value_name = "N",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub queue: usize,
    /// Time a request may take
    #[arg(long, env = "MARROWFLAG_DEADLINE", default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub deadline: Duration,
    /// Time the head of a request may take to arrive
    #[arg(long, env = "MARROWFLAG_HEAD_TIMEOUT", default_value = "5s", value_parser = duration, value_name = "TIME")]
    pub head_timeout: Duration,
    /// Time a body may take to arrive
    #[arg(long, env = "MARROWFLAG_BODY_TIMEOUT", default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub body_timeout: Duration,
    /// Time an idle connection is kept
    #[arg(long, env = "MARROWFLAG_KEEP_ALIVE", default_value = "15s", value_parser = duration, value_name = "TIME")]
    pub keep_alive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 8 << 20,
            max_entries: 1000,
            max_connections: 16_384,
            max_inflight_bytes: 64 << 20,
            queue: 1024,
            deadline: Duration::from_secs(30),
            head_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(15),
        }
    }
}

/// How `assess` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AssessFormat {
    /// The transaction Bundle that would be written back.
    Json,
    /// The same as XML; not built yet.
    Xml,
    /// What a clinician reads.
    Text,
}

/// `marrowflag assess`.
#[derive(Debug, Args)]
pub struct Assess {
    /// File to read; `-` is standard input
    #[arg(default_value = "-", value_name = "FILE")]
    pub file: PathBuf,
    /// How to answer
    #[arg(long, value_enum, default_value = "json")]
    pub format: AssessFormat,
    /// Say for every rule what was asked, of which values, and the answer
    #[arg(long)]
    pub explain: bool,
    /// The time it is made for: an instant (2026-11-20T08:00:00Z) [default: the newest sample]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub as_of: Option<time::OffsetDateTime>,
    /// Local codes to LOINC, a FHIR concept map
    #[arg(long, env = "MARROWFLAG_CODE_MAP", value_name = "FILE")]
    pub code_map: Option<PathBuf>,
    /// Add SNOMED CT codings (needs a licence where you are)
    #[arg(long)]
    pub snomed: bool,
}

/// How `read` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReadFormat {
    /// For a terminal.
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// `marrowflag read`.
#[derive(Debug, Args)]
pub struct Read {
    /// File to read; `-` is standard input
    #[arg(default_value = "-", value_name = "FILE")]
    pub file: PathBuf,
    /// How to answer
    #[arg(long, value_enum, default_value = "table")]
    pub format: ReadFormat,
    /// Local codes to LOINC, a FHIR concept map
    #[arg(long, env = "MARROWFLAG_CODE_MAP", value_name = "FILE")]
    pub code_map: Option<PathBuf>,
}

/// `marrowflag validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// Files to check; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// How `rules` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RulesFormat {
    /// For a reader.
    Md,
    /// For a program.
    Json,
}

/// `marrowflag rules`.
#[derive(Debug, Args)]
pub struct Rules {
    /// How to answer
    #[arg(long, value_enum, default_value = "md")]
    pub format: RulesFormat,
}

/// `marrowflag profiles`.
#[derive(Debug, Args)]
pub struct Profiles {
    /// Write every schema into this directory
    #[arg(long, value_name = "DIR")]
    pub write: Option<PathBuf>,
}

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// For a terminal.
    Table,
    /// One JSON object a line.
    Ndjson,
}

/// `marrowflag feedback`.
#[derive(Debug, Args)]
pub struct Feedback {
    /// Where everything is kept
    #[arg(
        long,
        env = "MARROWFLAG_DATABASE",
        default_value = "sqlite:marrowflag.db",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub database: Database,
    /// How to answer
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
}

/// `marrowflag deliveries`.
#[derive(Debug, Subcommand)]
pub enum Deliveries {
    /// List deliveries, the newest first
    List {
        /// Where everything is kept
        #[arg(
            long,
            env = "MARROWFLAG_DATABASE",
            default_value = "sqlite:marrowflag.db",
            hide_env_values = true,
            value_name = "URL"
        )]
        database: Database,
        /// Only those in this state: queued, later, `in_flight`, delivered, superseded, parked, discarded
        #[arg(long)]
        state: Option<String>,
        /// Only those to this FHIR server
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
        /// How to answer
        #[arg(long, value_enum, default_value = "table")]
        format: ListFormat,
    },
    /// Show one delivery with its items and attempts
    Show {
        /// Number of the delivery
        id: i64,
        /// Where everything is kept
        #[arg(
            long,
            env = "MARROWFLAG_DATABASE",
            default_value = "sqlite:marrowflag.db",
            hide_env_values = true,
            value_name = "URL"
        )]
        database: Database,
    },
    /// Try a parked delivery again
    Retry {
        /// Number of the delivery
        id: i64,
        /// The running service
        #[arg(
            long,
            env = "MARROWFLAG_SERVER",
            default_value = "http://127.0.0.1:8080",
            value_name = "URL"
        )]
        server: reqwest::Url,
    },
    /// Give a parked delivery up for good
    Discard {
        /// Number of the delivery
        id: i64,
        /// The running service
        #[arg(
            long,
            env = "MARROWFLAG_SERVER",
            default_value = "http://127.0.0.1:8080",
            value_name = "URL"
        )]
        server: reqwest::Url,
    },
}

/// `marrowflag patients`.
#[derive(Debug, Subcommand)]
pub enum Patients {
    /// Remove everything about a patient; reports on a FHIR server stay there
    Delete {
        /// As senders name the patient: a reference (Patient/p1) or an identifier (SYSTEM|VALUE);
        /// `-` reads it from standard input, so that it shows in no list of processes
        patient: String,
        /// Withdraw the patient's Flags first, and wait until the FHIR server has it
        #[arg(long)]
        retract: bool,
        /// The running service
        #[arg(
            long,
            env = "MARROWFLAG_SERVER",
            default_value = "http://127.0.0.1:8080",
            value_name = "URL"
        )]
        server: reqwest::Url,
    },
}

/// `marrowflag backup`.
#[derive(Debug, Args)]
pub struct Backup {
    /// The new file, where the service runs
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The running service
    #[arg(
        long,
        env = "MARROWFLAG_SERVER",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    pub server: reqwest::Url,
}

/// Where everything is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL server.
    Postgres(Address),
}

/// Where a database server is, with what logs in there: never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[address]")
    }
}

impl std::str::FromStr for Database {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(PathBuf::from(
                path.strip_prefix("//").unwrap_or(path),
            ))),
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
                Ok(Self::Postgres(Address(text.to_owned())))
            }
            _ => Err("expected sqlite:FILE or postgres://USER:PASSWORD@HOST/DATABASE".to_owned()),
        }
    }
}

/// System and value of an identifier, `SYSTEM|VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identifier {
    /// System.
    pub system: String,
    /// Value.
    pub value: String,
}

impl std::str::FromStr for Identifier {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('|') {
            Some((system, value)) if !system.is_empty() && !value.is_empty() => Ok(Self {
                system: system.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err("expected SYSTEM|VALUE, for example https://hospital.example/org|haematology"),
        }
    }
}

/// What is wrong with the configuration; the service exits with 78.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Listening beyond loopback without asking who calls.
    #[error(
        "{0} is reachable from other machines and this version asks nobody who they are; listen on 127.0.0.1 \
         behind your own gateway, or say --insecure"
    )]
    Open(SocketAddr),
    /// A database that several processes share, without the key that they must share too.
    #[error(
        "with postgres:// the identity key must be given by --identity-key-file, the same for every \
         process on the database: 64 hex digits, as `openssl rand -hex 32` makes them"
    )]
    IdentityKey,
    /// A URL that cannot serve as a base.
    #[error("{0} must be an http or https URL without query, fragment and user name")]
    Url(&'static str),
}

impl Serve {
    /// Refuses what would be dangerous or could not work.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !self.insecure && !self.listen.ip().is_loopback() {
            return Err(ConfigError::Open(self.listen));
        }
        for (name, url) in [
            ("--public-base-url", &self.public_base_url),
            ("--fhir-server", &self.fhir_server),
        ] {
            if url.as_ref().is_some_and(|url| !is_plain_base(url)) {
                return Err(ConfigError::Url(name));
            }
        }
        if matches!(self.database, Database::Postgres(_)) && self.identity_key_file.is_none() {
            return Err(ConfigError::IdentityKey);
        }
        Ok(())
    }
}

fn is_plain_base(url: &reqwest::Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
}

/// `8MiB`, `512KiB`, `1GiB` or a number of bytes.
fn bytes(text: &str) -> Result<usize, String> {
    let (number, unit) = split_number(text);
    let factor: usize = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("expected a size such as 8MiB, 512KiB or 4096".to_owned()),
    };
    number
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "expected a size such as 8MiB, 512KiB or 4096".to_owned())
}

/// `30s`, `500ms`, `5m`, or a number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_number(text);
    let number: u64 = number
        .parse()
        .map_err(|_| "expected a time such as 30s, 500ms or 5m".to_owned())?;
    let duration = match unit {
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        _ => return Err("expected a time such as 30s, 500ms or 5m".to_owned()),
    };
    if duration.is_zero() || duration > Duration::from_hours(1) {
        return Err("expected more than nothing and at most an hour".to_owned());
    }
    Ok(duration)
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

fn instant(text: &str) -> Result<time::OffsetDateTime, String> {
    time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
        .map_err(|_| "expected an instant such as 2026-11-20T08:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_defaults_of_the_limits_are_those_of_the_command_line() {
        let Command::Serve(serve) = Cli::parse_from(["marrowflag", "serve"]).command else {
            panic!("not serve");
        };
        assert_eq!(
            format!("{:?}", serve.limits),
            format!("{:?}", Limits::default())
        );
    }

    #[test]
    fn sizes_and_times_carry_their_units() {
        assert_eq!(bytes("8MiB"), Ok(8 * 1024 * 1024));
        assert_eq!(bytes("4096"), Ok(4096));
        assert!(bytes("8MB").is_err());
        assert!(bytes("0").is_err());
        assert!(bytes("99999999999999999999").is_err());
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        assert!(duration("0s").is_err());
        assert!(duration("forever").is_err());
    }

    #[test]
    fn listening_beyond_loopback_needs_to_be_meant() {
        let serve = |args: &[&str]| {
            let Command::Serve(serve) =
                Cli::parse_from([&["marrowflag", "serve"], args].concat()).command
            else {
                panic!("not serve");
            };
            serve.check()
        };
        assert!(serve(&[]).is_ok());
        assert!(serve(&["--listen", "[::1]:0"]).is_ok());
        assert!(matches!(
            serve(&["--listen", "0.0.0.0:0"]),
            Err(ConfigError::Open(_))
        ));
        assert!(serve(&["--listen", "0.0.0.0:0", "--insecure"]).is_ok());
        assert!(serve(&["--public-base-url", "ftp://x"]).is_err());
    }
}
