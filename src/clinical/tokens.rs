//! From facts with dates to the finding tokens that hold at one specimen.
//!
//! # Names
//! A fact names a token of the rules (`splenomegaly`, `dx:fanconi`, `gene:RP`), or a *base token*
//! that becomes one or several of them by its dates (`chemo`: `chemo_21`, `chemo_42`,
//! `chemo_past`). Behind an `@` a qualifier may say more:
//!
//! | fact | means |
//! |---|---|
//! | `dx:x` | diagnosis confirmed, or on the problem list |
//! | `dx:x@CODE` | recorded with an encounter only, under this code; the same for `cirrhosis`, `portal_htn`, `splenomegaly`, `alcohol` |
//! | `dx:x@text` | from words, a conclusion, or a code whose meaning was not confirmed |
//! | `x@refuted` | FALSE: withdraws what was said of `x` before |
//! | `x@observed` | examined or tested at its date |
//! | `x@drug` | by a drug, where `x` may also be a Condition |
//! | `x@longerN` | counts only after more than `N` days |
//! | `x_young@onset` | counts only if its date is early enough in life |
//! | `drug_other@rituximab` | acts for longer, as `gcsf_peg` does beside `gcsf` |
//! | `hsct@autologous`, `hsct@allogeneic` | whose cells |
//! | `steroid@40` | prednisolone equivalent, mg a day |
//! | `weight@62.5` | body weight, kg |
//! | `warts@repeated` | counts when recorded twice, half a year apart |
//! | `pregnant@test`, `pregnant@ended` | positive test; delivery or loss |
//! | `gestational_age@196` | completed days of pregnancy on its date |
//!
//! A fact without a qualifier and without a date is taken as stated. Windows are in whole days,
//! limit included, between calendar days as the senders wrote them (clinical specification 4.4.2
//! and 4.7, findings specification 3 to 8). All windows are project choices unless said.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use time::{Date, Month, OffsetDateTime, Time};

use super::{
    time::BirthDate,
    timeline::{Fact, Person, Source},
    truth::Truth,
};

/// For how long a statement about a token holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Once true, true for life (anomalies, genes, history).
    Ever,
    /// From its start to its end.
    State,
    /// Counts from so many days before the index to so many days after it.
    Event {
        /// Days before the index.
        before: i64,
        /// Days after the index.
        after: i64,
    },
    /// The index specimen only.
    Specimen,
    /// The newest result not older than this.
    Test {
        /// Days before the index; `None`: any age.
        days: Option<i64>,
    },
    /// While a drug is taken and this many days longer.
    Exposure {
        /// Days after its end.
        days: i64,
    },
    /// Only when it began before this birthday.
    OnsetBefore(i32),
}

/// Days around the index in which an acute event explains it.
const ACUTE: Span = Span::Event {
    before: 7,
    after: 2,
};

/// Marrow findings.
const MARROW: Span = Span::Event {
    before: 180,
    after: 0,
};

/// Diagnoses that count as known marrow failure or marrow disease.
const KNOWN_BMF: &[&str] = &[
    "dx:aplastic_anaemia",
    "dx:ibmf_unspecified",
    "dx:fanconi",
    "dx:dba",
    "dx:sds",
    "dx:telomere",
    "dx:camt",
    "dx:tar",
    "dx:scn",
    "dx:cyclic_neutropenia",
    "dx:gata2",
    "dx:pearson",
    "dx:reticular_dysgenesis",
    "dx:cda",
    "dx:sideroblastic",
    "dx:barth",
    "dx:pnh",
    "dx:prca",
    "dx:mds",
    "dx:jmml",
    "dx:cmml",
];

/// Days between two encounters that make a diagnosis recorded in both a known one.
const REPEATED_DIAGNOSIS: i64 = 30;
/// Days between two records of warts that make them extensive.
const REPEATED_WARTS: i64 = 180;
/// Days between transfusions that count apart, and how many make dependence.
const TRANSFUSIONS_APART: i64 = 14;
const TRANSFUSIONS_DEPENDENT: usize = 3;
/// Days for which an entry of palliative care holds.
const PALLIATIVE: i64 = 180;
/// Days for which a body weight is used for a dose.
const WEIGHT: i64 = 365;
/// Prednisolone equivalent, mg/kg a day, from which a dose is high.
const HIGH_STEROID: Decimal = Decimal::from_parts(5, 0, 0, false, 1);

/// For how long a statement about `token` (without qualifier) holds.
pub fn span(token: &str) -> Span {
    match token {
        "schistocytes"
        | "teardrops"
        | "leukoerythroblastic"
        | "hypersegmented"
        | "dimorphic"
        | "dysplasia"
        | "blasts_flagged_film"
        | "blast_analyser_flag"
        | "arc_manual"
        | "clumped"
        | "plt_clump"
        | "plt_satellitism"
        | "plt_smear_low"
        | "film_reviewed" => Span::Specimen,
        "bleeding" | "sepsis" | "neuro_signs" | "aki" | "diarrhoea_bloody" | "haemoglobinuria"
        | "acidosis" | "lactate_high" | "inr_high" | "hellp_labs" | "fever_reported" => ACUTE,
        "viral" | "bacterial" | "chemo_plan" => Span::Event {
            before: 42,
            after: 0,
        },
        "hepatitis" => Span::Event {
            before: 180,
            after: 0,
        },
        "haemophagocytosis" => MARROW,
        "dat_positive" => Span::Test { days: Some(30) },
        "zinc_high" => Span::Test { days: Some(90) },
        "breakage_positive" | "telomere_below_1" | "telomere_below_10" | "telomere_from_50"
        | "eada_high" | "hba2_high" | "hbf_high" | "hbf_normal" | "trypsinogen_low"
        | "isoamylase_low" | "antineutrophil_ab" | "blow" | "nklow" | "nk_absent" | "tpo_high"
        | "mga_high" | "mlcl_high" | "trec_absent" | "duffy_null" => Span::Test { days: None },
        "chemo" | "rt" | "hsct" | "rbc_transfusion" | "plt_transfusion" | "gcsf" | "gcsf_peg"
        | "steroid" | "weight" => Span::Exposure { days: 0 },
        "drug_high"
        | "drug_other"
        | "drug_prca"
        | "drug_sidero"
        | "esa"
        | "tpo_ra"
        | "ivig"
        | "androgen"
        | "complement_inhibitor"
        | "iron_chelator" => Span::Exposure { days: 30 },
        "scc_young" => Span::OnsetBefore(50),
        "aml_young" => Span::OnsetBefore(40),
        "early_grey_hair" => Span::OnsetBefore(30),
        "thumb_radial_anomaly"
        | "absent_radii"
        | "absent_radii_bilateral"
        | "thumbs_present"
        | "thumbs_absent"
        | "craniofacial"
        | "cleft"
        | "cardiac_defect"
        | "renal_gu_anomaly"
        | "microcephaly"
        | "cafe_au_lait"
        | "pigment_change"
        | "skeletal_dysplasia"
        | "cystic_fibrosis"
        | "haemoglobinopathy"
        | "down_syndrome"
        | "nf1"
        | "noonan"
        | "cbl_syndrome"
        | "dubowitz_facies"
        | "osteopetrosis"
        | "cerebellar_hypoplasia"
        | "iugr"
        | "preterm_lt32"
        | "asplenia"
        | "bariatric"
        | "post_hsct_status"
        | "abo_hsct"
        | "chemo_past"
        | "hiv"
        | "consanguinity"
        | "recurrent_infection"
        | "severe_infection"
        | "periodic_fever"
        | "thrombosis_unusual"
        | "rad_accident"
        | "clonal_mutation"
        | "mds_cytogenetics"
        | "monosomy7"
        | "trisomy8"
        | "bcr_abl"
        | "haemolysis_known"
        | "lifelong_anaemia"
        | "deafness"
        | "chemo_hypersensitivity" => Span::Ever,
        _ if token.starts_with("bm_") => MARROW,
        _ if token.starts_with("gene:") || token.starts_with("family_") => Span::Ever,
        _ if KNOWN_BMF.contains(&token) => Span::Ever,
        _ => Span::State,
    }
}

/// Tokens that lower or silence an alarm: they need dated, confirmed evidence.
pub fn silences(token: &str) -> bool {
    matches!(token, "chemo" | "chemo_plan" | "rt" | "hsct" | "palliative")
}

/// Tokens that count as a known cause once confirmed; their facts say how well they are known.
pub fn needs_confirmation(token: &str) -> bool {
    token.starts_with("dx:")
        || matches!(
            token,
            "cirrhosis" | "portal_htn" | "splenomegaly" | "alcohol"
        )
}

/// Tokens of a pathogen, for which a positive test is dated evidence only.
pub fn is_pathogen(token: &str) -> bool {
    matches!(
        token,
        "ebv" | "cmv" | "parvo" | "malaria" | "tb" | "leishmania" | "torch"
    )
}

/// Tokens that a Condition or a procedure as well as a drug can bring about.
pub fn is_also_a_condition(token: &str) -> bool {
    matches!(
        token,
        "immunosuppressed" | "b12_risk" | "zinc_excess" | "tpn"
    )
}

/// What is known of one token at the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The answer.
    pub truth: Truth,
    /// Start of the earliest fact that makes it so.
    pub since: Option<OffsetDateTime>,
    /// The facts it comes from.
    pub sources: Vec<Source>,
}

/// Every token of which something is known at one index time. What is not in it was not sent.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    states: BTreeMap<String, State>,
}

impl Tokens {
    /// The tokens that hold at `index`.
    pub fn at(facts: &[Fact], person: &Person, index: OffsetDateTime) -> Self {
        Self::from_all(&facts.iter().collect::<Vec<_>>(), person, index)
    }

    /// What is known of one token at `index`, without looking at facts that cannot matter to it.
    pub fn one(
        token: &str,
        facts: &[Fact],
        person: &Person,
        index: OffsetDateTime,
    ) -> Option<State> {
        let needed: Vec<&Fact> = facts
            .iter()
            .filter(|fact| can_yield(base(&fact.token), token))
            .collect();
        if needed.is_empty() {
            return None;
        }
        Self::from_all(&needed, person, index).states.remove(token)
    }

    fn from_all(facts: &[&Fact], person: &Person, index: OffsetDateTime) -> Self {
        let mut tokens = Self::default();
        for (token, facts) in grouped(facts) {
            let view = View {
                token,
                facts: &facts,
                person,
                index,
            };
            view.resolve(&mut tokens);
        }
        tokens.imply(facts, index);
        tokens
    }

    /// What is known of `token`; `None`: nothing was sent.
    pub fn get(&self, token: &str) -> Option<&State> {
        self.states.get(token)
    }

    /// The answer for `token`; not sent: UNKNOWN.
    pub fn truth(&self, token: &str) -> Truth {
        self.get(token).map_or(Truth::Unknown, |state| state.truth)
    }

    /// Every token with its state, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &State)> {
        self.states
            .iter()
            .map(|(token, state)| (token.as_str(), state))
    }

    /// Adds a statement from elsewhere (fever, the series): TRUE wins, then UNKNOWN.
    pub fn put(&mut self, token: &str, truth: Truth, sources: Vec<Source>) {
        self.merge(
            token,
            State {
                truth,
                since: None,
                sources,
            },
        );
    }

    fn merge(&mut self, token: &str, state: State) {
        match self.states.get_mut(token) {
            None => {
                self.states.insert(token.to_owned(), state);
            }
            Some(known) if state.truth > known.truth => *known = state,
            Some(known) if state.truth == known.truth => {
                known.since = earliest(known.since, state.since);
                known.sources.extend(state.sources);
            }
            Some(_) => {}
        }
    }

    fn copy(&mut self, from: &str, to: &str) {
        if let Some(state) = self.get(from).filter(|state| state.truth.is_true()) {
            let state = state.clone();
            self.merge(to, state);
        }
    }

    /// Tokens that follow from other tokens.
    fn imply(&mut self, facts: &[&Fact], index: OffsetDateTime) {
        self.copy("chemo_21", "chemo_42");
        self.copy("hsct_28", "hsct_recent");
        self.copy("cryptogenic_cirrhosis", "cirrhosis");
        self.copy("cirrhosis", "chronic_liver");
        self.copy("absent_radii_bilateral", "absent_radii");
        self.copy("telomere_below_1", "telomere_below_10");
        self.copy("monosomy7", "mds_cytogenetics");
        self.high_steroid(facts, index);
        self.prior_disease(index);
        self.donor(facts, index);
        self.blood_of_others(facts, index);
        self.reserved();
    }

    /// Prednisolone equivalent against body weight: the doses of everything taken on the index day
    /// together.
    fn high_steroid(&mut self, facts: &[&Fact], index: OffsetDateTime) {
        let taken: Vec<&Fact> = facts
            .iter()
            .copied()
            .filter(|fact| base(&fact.token) == "steroid" && !starts_after(fact, index))
            .filter(|fact| last_of(fact, index).is_none_or(|day| day >= index.date()))
            .collect();
        if taken.is_empty() {
            return;
        }
        let weight = facts
            .iter()
            .filter(|fact| base(&fact.token) == "weight" && !starts_after(fact, index))
            .filter(|fact| {
                fact.from
                    .is_some_and(|from| days_between(from.date(), index.date()) <= WEIGHT)
            })
            .max_by_key(|fact| fact.from)
            .and_then(|fact| qualifier(&fact.token)?.parse::<Decimal>().ok())
            .filter(|weight| *weight > Decimal::ZERO);
        let doses: Vec<Option<Decimal>> = taken
            .iter()
            .map(|fact| qualifier(&fact.token).and_then(|dose| dose.parse().ok()))
            .collect();
        let total = doses
            .iter()
            .flatten()
            .try_fold(Decimal::ZERO, |sum, dose| sum.checked_add(*dose));
        let high = weight
            .zip(total)
            .and_then(|(weight, total)| total.checked_div(weight))
            .map(|dose| dose >= HIGH_STEROID);
        let by_dose = match high {
            Some(true) => Truth::True,
            Some(false) if doses.iter().all(Option::is_some) => Truth::False,
            _ => Truth::Unknown,
        };
        for fact in taken {
            self.merge("steroid_high", stated(fact, fact.truth.and(by_dose)));
        }
    }

    /// A marrow disease known before the index.
    fn prior_disease(&mut self, index: OffsetDateTime) {
        let known: Vec<State> = KNOWN_BMF
            .iter()
            .chain(&["dx:mpn"])
            .filter_map(|token| self.get(token))
            .cloned()
            .collect();
        for mut state in known {
            if state.since.is_none_or(|since| since.date() >= index.date()) {
                state.truth = state.truth.and(Truth::Unknown);
            }
            if !state.truth.is_false() {
                self.merge("prior_mds", state);
            }
        }
    }

    /// Whose stem cells: any transplant that is not recorded as autologous. A bare status code
    /// speaks of the transplant that is recorded, if one is.
    fn donor(&mut self, facts: &[&Fact], index: OffsetDateTime) {
        let done = |fact: &&Fact| fact.truth.is_true() && !starts_after(fact, index);
        let transplants: Vec<&Fact> = facts
            .iter()
            .copied()
            .filter(|fact| base(&fact.token) == "hsct")
            .filter(done)
            .collect();
        let status: Vec<&Fact> = facts
            .iter()
            .copied()
            .filter(|fact| base(&fact.token) == "post_hsct_status")
            .filter(done)
            .collect();
        let foreign: Vec<&Fact> = transplants
            .iter()
            .copied()
            .filter(|fact| qualifier(&fact.token) != Some("autologous"))
            .collect();
        let witnesses = if !foreign.is_empty() {
            foreign
        } else if transplants.is_empty() {
            status.clone()
        } else {
            status
                .into_iter()
                .filter(|fact| qualifier(&fact.token) == Some("gvhd"))
                .collect()
        };
        for fact in witnesses {
            self.merge("hsct_allo", stated(fact, Truth::True));
        }
    }

    /// Results that speak of a donor's blood, or of transfused cells, are not the patient's.
    fn blood_of_others(&mut self, facts: &[&Fact], index: OffsetDateTime) {
        let grafted = facts
            .iter()
            .filter(|fact| base(&fact.token) == "hsct" && fact.truth.is_true())
            .filter(|fact| {
                qualifier(&fact.token) != Some("autologous") && !starts_after(fact, index)
            })
            .filter_map(|fact| fact.from)
            .min();
        let transfused = facts
            .iter()
            .filter(|fact| base(&fact.token) == "rbc_transfusion" && fact.truth.is_true())
            .filter_map(|fact| last_day(fact))
            .filter(|day| (0..=120).contains(&days_between(*day, index.date())))
            .min();
        for (token, state) in &mut self.states {
            let from_blood = token.starts_with("gene:")
                || token.starts_with("telomere_")
                || matches!(
                    token.as_str(),
                    "breakage_positive" | "hbf_high" | "hbf_normal" | "eada_high"
                );
            let of_donor = from_blood
                && state
                    .since
                    .zip(grafted)
                    .is_some_and(|(since, grafted)| since > grafted);
            let of_bag = matches!(token.as_str(), "hbf_high" | "hbf_normal" | "eada_high")
                && state
                    .since
                    .zip(transfused)
                    .is_some_and(|(since, transfused)| since.date() >= transfused);
            if of_donor || of_bag {
                state.truth = Truth::Unknown;
            }
        }
    }

    /// Codes that count only beside, or without, something else.
    fn reserved(&mut self) {
        if let Some(state) = self.states.remove("leishmania@unspecified") {
            let shown = self.truth("splenomegaly").or(self.truth("fever_reported"));
            let truth = state.truth.and(if shown.is_true() {
                Truth::True
            } else {
                Truth::Unknown
            });
            self.merge("leishmania", State { truth, ..state });
        }
        if let Some(state) = self.states.remove("lymphoedema@unprovoked") {
            let provoked = self.truth("rt_60").is_true()
                || self.truth("chemo_past").is_true()
                || self.truth("metastatic_cancer").is_true();
            let truth = if provoked {
                state.truth.and(Truth::Unknown)
            } else {
                state.truth
            };
            self.merge("lymphoedema", State { truth, ..state });
        }
        if let Some(state) = self.states.remove("cardiac_defect@ductus") {
            let preterm = self.truth("preterm_lt32").is_true();
            let truth = if preterm {
                state.truth.and(Truth::Unknown)
            } else {
                state.truth
            };
            self.merge("cardiac_defect", State { truth, ..state });
        }
    }
}

/// Reasons to be quiet about what is known and under care (clinical specification 8.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quiet {
    /// Cytotoxic treatment in the last 42 days, or planned then.
    pub chemotherapy: bool,
    /// At most 100 days after a stem cell transplant.
    pub transplant: bool,
    /// Palliative or comfort care.
    pub palliative: bool,
    /// The known, confirmed marrow failure or marrow disease (`dx:fanconi`).
    pub known_bmf: Option<&'static str>,
}

/// The reasons that hold at `index`.
pub fn quiet(facts: &[Fact], tokens: &Tokens, index: OffsetDateTime) -> Quiet {
    let is_true = |token| tokens.truth(token).is_true();
    Quiet {
        chemotherapy: is_true("chemo_42") || is_true("chemo_plan"),
        transplant: is_true("hsct_recent"),
        palliative: is_true("palliative"),
        known_bmf: KNOWN_BMF
            .iter()
            .copied()
            .find(|token| is_true(token) && is_confirmed(facts, token, index)),
    }
}

/// Whether a diagnosis (or cause) is recorded well enough, at `at`, to be quiet about it:
/// confirmed or on the problem list, or under the same code in encounters 30 days apart.
pub fn is_confirmed(facts: &[Fact], token: &str, at: OffsetDateTime) -> bool {
    let said: Vec<&Fact> = facts
        .iter()
        .filter(|fact| base(&fact.token) == token && fact.truth.is_true())
        .filter(|fact| !starts_after(fact, at))
        .filter(|fact| fact.until.is_none_or(|until| until.date() >= at.date()))
        .collect();
    said.iter().any(|fact| match qualifier(&fact.token) {
        None => true,
        Some("text" | "observed" | "refuted") => false,
        Some(_) => said.iter().any(|other| {
            other.token == fact.token
                && fact.from.zip(other.from).is_some_and(|(one, two)| {
                    days_between(one.date(), two.date()) >= REPEATED_DIAGNOSIS
                })
        }),
    })
}

/// Whether facts about `source` can decide `token`: itself, what it becomes by its dates, and what
/// implies it. Tokens whose answer depends on several others yield to everything.
fn can_yield(source: &str, token: &str) -> bool {
    source == token
        || match token {
            "chemo_21" => source == "chemo",
            "chemo_42" => matches!(source, "chemo" | "chemo_21"),
            "rt_60" => source == "rt",
            "hsct_28" => source == "hsct",
            "hsct_recent" => matches!(source, "hsct" | "hsct_28"),
            "gcsf_14" => matches!(source, "gcsf" | "gcsf_peg"),
            "rbc_transfusion_120d" | "transfusion_dependent" => source == "rbc_transfusion",
            "plt_transfusion_3d" => source == "plt_transfusion",
            "viral_recent" => source == "viral",
            "bacterial_recent" => source == "bacterial",
            "hepatitis_recent" => source == "hepatitis",
            "bleeding" | "iv_fluids" | "plt_clump" | "clumped" | "steroid" | "ivig" | "fever" => {
                false
            }
            _ => true,
        }
}

/// The token of a fact without its qualifier.
pub fn base(token: &str) -> &str {
    token.split_once('@').map_or(token, |(base, _)| base)
}

/// The qualifier of a fact's token.
pub fn qualifier(token: &str) -> Option<&str> {
    token.split_once('@').map(|(_, qualifier)| qualifier)
}

fn grouped<'f>(facts: &[&'f Fact]) -> BTreeMap<&'f str, Vec<&'f Fact>> {
    let mut groups: BTreeMap<&str, Vec<&Fact>> = BTreeMap::new();
    for fact in facts {
        groups.entry(base(&fact.token)).or_default().push(fact);
    }
    groups
}

fn stated(fact: &Fact, truth: Truth) -> State {
    State {
        truth,
        since: fact.from,
        sources: vec![fact.source.clone()],
    }
}

fn earliest(one: Option<OffsetDateTime>, other: Option<OffsetDateTime>) -> Option<OffsetDateTime> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn days_between(from: Date, to: Date) -> i64 {
    (to - from).whole_days()
}

/// Whether only the calendar day of an instant is known.
fn is_a_day(instant: OffsetDateTime) -> bool {
    instant.time() == Time::MIDNIGHT
}

/// What begins after the index does not explain it.
fn starts_after(fact: &Fact, index: OffsetDateTime) -> bool {
    fact.from.is_some_and(|from| {
        if is_a_day(from) || is_a_day(index) {
            from.date() > index.date()
        } else {
            from > index
        }
    })
}

/// Last day of an exposure as seen from the index; an open one lasts to the index.
fn last_of(fact: &Fact, index: OffsetDateTime) -> Option<Date> {
    let today = index.date();
    match (fact.from, fact.until) {
        (None, None) => None,
        (_, Some(until)) => Some(until.date().min(today)),
        (Some(_), None) => Some(today),
    }
}

fn last_day(fact: &Fact) -> Option<Date> {
    fact.until.or(fact.from).map(OffsetDateTime::date)
}

/// The facts about one base token, seen from the index.
struct View<'a> {
    token: &'a str,
    facts: &'a [&'a Fact],
    person: &'a Person,
    index: OffsetDateTime,
}

impl View<'_> {
    fn resolve(&self, tokens: &mut Tokens) {
        match self.token {
            "chemo" => self.cytotoxic(tokens),
            "rt" => self.radiotherapy(tokens),
            "hsct" => self.transplant(tokens),
            "gcsf" => self.within(tokens, "gcsf_14", 14, |_| true),
            "gcsf_peg" => self.within(tokens, "gcsf_14", 21, |_| true),
            // A dose needs a weight: `Tokens::high_steroid`.
            "steroid" | "weight" => {}
            "rbc_transfusion" => self.red_cells(tokens),
            "plt_transfusion" => {
                self.within(tokens, "plt_transfusion_3d", 3, |_| true);
            }
            "viral" | "bacterial" | "hepatitis" => {
                let name = format!("{}_recent", self.token);
                self.plain(tokens, &name);
            }
            "warts" => self.warts(tokens),
            "palliative" => self.palliative(tokens),
            _ => self.plain(tokens, self.token),
        }
    }

    /// Days from the last day of the exposure to the index; an open one lasts to the index.
    fn days_since(&self, fact: &Fact) -> Option<i64> {
        last_of(fact, self.index).map(|last| days_between(last, self.index.date()))
    }

    fn usable(&self) -> impl Iterator<Item = &Fact> {
        self.facts
            .iter()
            .copied()
            .filter(|fact| !starts_after(fact, self.index))
    }

    /// States `name` from the facts whose exposure lies at most `days` back.
    fn within(&self, tokens: &mut Tokens, name: &str, days: i64, counts: impl Fn(&Fact) -> bool) {
        for fact in self.usable().filter(|fact| counts(fact)) {
            match self.days_since(fact) {
                Some(since) if since <= days => tokens.merge(name, stated(fact, fact.truth)),
                Some(_) => {}
                // No date: it may have been then.
                None => tokens.merge(name, stated(fact, fact.truth.and(Truth::Unknown))),
            }
        }
    }

    fn past(&self, tokens: &mut Tokens) {
        for fact in self.usable().filter(|fact| fact.truth.is_true()) {
            if self.days_since(fact).is_some_and(|since| since >= 365) {
                tokens.merge("chemo_past", stated(fact, Truth::True));
            }
        }
    }

    fn cytotoxic(&self, tokens: &mut Tokens) {
        self.within(tokens, "chemo_21", 21, |_| true);
        self.within(tokens, "chemo_42", 42, |_| true);
        self.past(tokens);
    }

    fn radiotherapy(&self, tokens: &mut Tokens) {
        self.within(tokens, "rt_60", 60, |_| true);
        self.past(tokens);
    }

    fn transplant(&self, tokens: &mut Tokens) {
        self.within(tokens, "hsct_28", 28, |_| true);
        self.within(tokens, "hsct_recent", 100, |_| true);
        for fact in self.usable().filter(|fact| fact.truth.is_true()) {
            if self.days_since(fact).is_some_and(|since| since > 100) {
                tokens.merge("post_hsct_status", stated(fact, Truth::True));
            }
        }
    }

    fn red_cells(&self, tokens: &mut Tokens) {
        self.within(tokens, "rbc_transfusion_120d", 120, |_| true);
        let mut given: Vec<&Fact> = self
            .usable()
            .filter(|fact| fact.truth.is_true() && fact.from.is_some())
            .collect();
        given.sort_by_key(|fact| fact.from);
        let mut apart: Vec<&Fact> = Vec::new();
        for fact in given {
            let far = apart
                .last()
                .and_then(|last| last.from)
                .zip(fact.from)
                .is_none_or(|(last, this)| {
                    days_between(last.date(), this.date()) >= TRANSFUSIONS_APART
                });
            if far {
                apart.push(fact);
            }
        }
        if apart.len() >= TRANSFUSIONS_DEPENDENT {
            for fact in apart {
                tokens.merge("transfusion_dependent", stated(fact, Truth::True));
            }
        }
    }

    fn warts(&self, tokens: &mut Tokens) {
        let plain: Vec<&Fact> = self
            .facts
            .iter()
            .copied()
            .filter(|fact| qualifier(&fact.token) != Some("repeated"))
            .collect();
        View {
            facts: &plain,
            ..*self
        }
        .plain(tokens, "warts");
        let mut recorded: Vec<&Fact> = self
            .usable()
            .filter(|fact| qualifier(&fact.token) == Some("repeated"))
            .filter(|fact| !fact.truth.is_false())
            .collect();
        recorded.sort_by_key(|fact| fact.from);
        let spread = recorded
            .iter()
            .filter_map(|fact| fact.from)
            .min()
            .zip(recorded.iter().filter_map(|fact| fact.from).max())
            .is_some_and(|(first, last)| days_between(first.date(), last.date()) >= REPEATED_WARTS);
        for fact in recorded {
            tokens.merge(
                "warts",
                stated(fact, if spread { Truth::True } else { Truth::Unknown }),
            );
        }
    }

    fn palliative(&self, tokens: &mut Tokens) {
        let newest = self
            .usable()
            .filter(|fact| fact.from.is_some())
            .max_by_key(|fact| (fact.from, fact.truth));
        match newest {
            Some(fact) => {
                let age = fact
                    .from
                    .map(|from| days_between(from.date(), self.index.date()));
                let ended = fact
                    .until
                    .is_some_and(|until| until.date() < self.index.date());
                if ended {
                    tokens.merge("palliative", stated(fact, Truth::False));
                } else if age.is_some_and(|age| age <= PALLIATIVE) {
                    tokens.merge("palliative", stated(fact, fact.truth));
                }
            }
            None => self.plain(tokens, "palliative"),
        }
    }

    /// States `name` by the span of the token.
    fn plain(&self, tokens: &mut Tokens, name: &str) {
        let refuted = self
            .usable()
            .filter(|fact| is_refutation(fact))
            .filter_map(|fact| fact.from)
            .max();
        let newest = |counts: &dyn Fn(&Fact) -> bool| {
            self.usable()
                .filter(|fact| counts(fact) && fact.from.is_some())
                .max_by_key(|fact| (fact.from, fact.truth))
                .and_then(|fact| fact.from)
        };
        let span = span(self.token);
        let is_observed = |fact: &Fact| qualifier(&fact.token) == Some("observed");
        let examined = newest(&is_observed);
        let tested = newest(&|_| true);
        for fact in self.facts {
            // Withdrawn since: what was said before no longer counts.
            let withdrawn = !is_refutation(fact)
                && !fact.truth.is_false()
                && refuted
                    .zip(fact.from)
                    .is_some_and(|(refuted, from)| from <= refuted);
            // Of several examinations or tests the newest counts.
            let outdated = match span {
                Span::Test { .. } => fact.from < tested,
                _ => is_observed(fact) && fact.from < examined,
            };
            if withdrawn || outdated {
                continue;
            }
            let name = self.reserved_name(fact, name);
            if let Some(truth) = self.truth_of(fact, span) {
                tokens.merge(&name, stated(fact, truth));
            }
        }
    }

    /// Names that [`Tokens::reserved`] decides on once everything else is known.
    fn reserved_name(&self, fact: &Fact, name: &str) -> String {
        match qualifier(&fact.token) {
            Some(reserve @ ("unspecified" | "unprovoked" | "ductus")) => {
                format!("{}@{reserve}", self.token)
            }
            _ => name.to_owned(),
        }
    }

    /// What one fact says at the index; `None`: nothing.
    fn truth_of(&self, fact: &Fact, span: Span) -> Option<Truth> {
        let index = self.index.date();
        let late = starts_after(fact, self.index);
        if let Some(days) = qualifier(&fact.token).and_then(|word| word.strip_prefix("longer")) {
            return (!late).then(|| self.long_enough(fact, days)).flatten();
        }
        match qualifier(&fact.token) {
            Some("rituximab") if !late => return self.taken(fact, 180),
            Some("drug") if !late => return self.taken(fact, 30),
            Some("observed") if is_pathogen(self.token) => {
                let age = days_between(fact.from?.date(), index);
                return (!late && age <= 42).then_some(fact.truth);
            }
            _ => {}
        }
        match span {
            Span::Ever => (!late).then_some(fact.truth),
            Span::State => (!late).then(|| self.lasting(fact)).flatten(),
            Span::Event { before, after } => {
                let Some(last) = last_day(fact) else {
                    return Some(fact.truth);
                };
                let first = fact.from.map_or(last, OffsetDateTime::date);
                let inside =
                    days_between(index, first) <= after && days_between(last, index) <= before;
                inside.then_some(fact.truth)
            }
            Span::Specimen => self.of_specimen(fact),
            Span::Test { days } => {
                let fresh = fact
                    .from
                    .zip(days)
                    .is_none_or(|(from, days)| days_between(from.date(), index) <= days);
                (!late && fresh).then_some(fact.truth)
            }
            Span::Exposure { days } => (!late).then(|| self.taken(fact, days)).flatten(),
            Span::OnsetBefore(years) => (!late).then(|| self.young_at(fact, years)),
        }
    }

    fn lasting(&self, fact: &Fact) -> Option<Truth> {
        let over = fact
            .until
            .is_some_and(|until| until.date() < self.index.date());
        match (fact.truth, over) {
            (truth, false) => Some(truth),
            (Truth::True, true) => Some(Truth::False),
            (_, true) => None,
        }
    }

    fn taken(&self, fact: &Fact, days: i64) -> Option<Truth> {
        let over = fact
            .until
            .is_some_and(|until| days_between(until.date(), self.index.date()) > days);
        (!over).then_some(fact.truth)
    }

    fn long_enough(&self, fact: &Fact, days: &str) -> Option<Truth> {
        let days: i64 = days.parse().ok()?;
        let truth = self.taken(fact, 30)?;
        let duration = fact.from.map(|from| {
            let until = fact.until.map_or(self.index.date(), |until| {
                until.date().min(self.index.date())
            });
            days_between(from.date(), until)
        });
        Some(match duration {
            Some(duration) if duration > days => truth,
            Some(_) if fact.until.is_some_and(|until| until <= self.index) => {
                truth.and(Truth::False)
            }
            _ => truth.and(Truth::Unknown),
        })
    }

    /// The same minute, or the same day when only a day is known.
    fn of_specimen(&self, fact: &Fact) -> Option<Truth> {
        let Some(from) = fact.from else {
            return Some(fact.truth);
        };
        if qualifier(&fact.token) == Some("marrow") {
            let age = days_between(from.date(), self.index.date());
            return (0..=180).contains(&age).then_some(fact.truth);
        }
        let same = if is_a_day(from) || is_a_day(self.index) {
            from.date() == self.index.date()
        } else {
            (from - self.index).whole_minutes() == 0
        };
        same.then_some(fact.truth)
    }

    fn young_at(&self, fact: &Fact, years: i32) -> Truth {
        if qualifier(&fact.token) != Some("onset") {
            return fact.truth;
        }
        let young = fact
            .from
            .zip(birthday(self.person.birth, years))
            .is_some_and(|(from, birthday)| from.date() < birthday);
        // The date may be that of filing only: a late one says nothing of the onset.
        fact.truth
            .and(if young { Truth::True } else { Truth::Unknown })
    }
}

fn is_refutation(fact: &Fact) -> bool {
    qualifier(&fact.token) == Some("refuted")
}

/// The N-th birthday, of an incomplete date of birth the earliest possible one. A 29 February
/// birthday falls on 1 March in other years.
fn birthday(birth: Option<BirthDate>, years: i32) -> Option<Date> {
    let (year, month, day) = match birth? {
        BirthDate::Day(date) => (date.year(), date.month(), date.day()),
        BirthDate::Month(year, month) => (year, month, 1),
        BirthDate::Year(year) => (year, Month::January, 1),
    };
    let year = year.checked_add(years)?;
    Date::from_calendar_date(year, month, day)
        .or_else(|_| Date::from_calendar_date(year, Month::March, 1))
        .ok()
}

#[cfg(test)]
mod tests {
    use time::{Duration, macros::datetime};

    use super::*;

    const INDEX: OffsetDateTime = datetime!(2026-11-18 08:00 UTC);

    fn at(days_before: i64) -> OffsetDateTime {
        INDEX - Duration::days(days_before)
    }

    fn fact(token: &str, truth: Truth, from: Option<i64>, until: Option<i64>) -> Fact {
        Fact {
            token: token.into(),
            truth,
            from: from.map(at),
            until: until.map(at),
            filed_at: None,
            source: Source::default(),
        }
    }

    fn on(token: &str, days_before: i64) -> Fact {
        fact(token, Truth::True, Some(days_before), Some(days_before))
    }

    fn tokens(facts: &[Fact]) -> Tokens {
        Tokens::at(facts, &Person::default(), INDEX)
    }

    fn sent(facts: &[Fact], token: &str) -> Option<Truth> {
        tokens(facts).get(token).map(|state| state.truth)
    }

    /// TRUE at the last day of a window, nothing the day after.
    fn assert_window(base: &str, token: &str, last: i64) {
        assert_eq!(
            sent(&[on(base, last)], token),
            Some(Truth::True),
            "{base} {last} d before"
        );
        assert_eq!(
            sent(&[on(base, last + 1)], token),
            None,
            "{base} {} d before",
            last + 1
        );
    }

    #[test]
    fn windows_include_their_last_day() {
        for (base, token, last) in [
            ("chemo", "chemo_21", 21),
            ("chemo", "chemo_42", 42),
            ("rt", "rt_60", 60),
            ("hsct", "hsct_28", 28),
            ("hsct", "hsct_recent", 100),
            ("gcsf", "gcsf_14", 14),
            ("gcsf_peg", "gcsf_14", 21),
            ("rbc_transfusion", "rbc_transfusion_120d", 120),
            ("plt_transfusion", "plt_transfusion_3d", 3),
            ("viral", "viral_recent", 42),
            ("bacterial", "bacterial_recent", 42),
            ("hepatitis", "hepatitis_recent", 180),
            ("drug_high", "drug_high", 30),
            ("drug_other@rituximab", "drug_other", 180),
            ("esa", "esa", 30),
            ("bm_hypocellular", "bm_hypocellular", 180),
            ("dysplasia@marrow", "dysplasia", 180),
            ("dat_positive", "dat_positive", 30),
            ("bleeding", "bleeding", 7),
            ("ebv@observed", "ebv", 42),
        ] {
            assert_window(base, token, last);
        }
    }

    #[test]
    fn exposures_of_a_year_ago_are_past() {
        assert_eq!(sent(&[on("chemo", 364)], "chemo_past"), None);
        assert_eq!(sent(&[on("chemo", 365)], "chemo_past"), Some(Truth::True));
        assert_eq!(sent(&[on("rt", 365)], "chemo_past"), Some(Truth::True));
        assert_eq!(sent(&[on("hsct", 100)], "post_hsct_status"), None);
        assert_eq!(
            sent(&[on("hsct", 101)], "post_hsct_status"),
            Some(Truth::True)
        );
    }

    #[test]
    fn an_acute_event_counts_a_little_after_the_index_too() {
        for (days, expected) in [(-2, Some(Truth::True)), (-3, None)] {
            assert_eq!(sent(&[on("sepsis", days)], "sepsis"), expected, "{days}");
        }
        assert_eq!(sent(&[on("splenomegaly", -1)], "splenomegaly"), None);
        assert_eq!(sent(&[on("chemo", -1)], "chemo_42"), None);
    }

    #[test]
    fn without_a_date_a_base_token_decides_nothing() {
        let undated = |token| fact(token, Truth::True, None, None);
        assert_eq!(sent(&[undated("chemo")], "chemo_42"), Some(Truth::Unknown));
        // A token of the rules is taken as stated.
        assert_eq!(sent(&[undated("chemo_21")], "chemo_42"), Some(Truth::True));
        assert_eq!(sent(&[undated("bleeding")], "bleeding"), Some(Truth::True));
    }

    #[test]
    fn an_open_exposure_lasts_to_the_index() {
        let open = fact("chemo", Truth::True, Some(300), None);
        assert_eq!(sent(&[open], "chemo_21"), Some(Truth::True));
    }

    #[test]
    fn some_drugs_count_only_after_a_while() {
        let course = |from, until| fact("drug_other@longer10", Truth::True, Some(from), until);
        assert_eq!(sent(&[course(11, None)], "drug_other"), Some(Truth::True));
        assert_eq!(
            sent(&[course(10, None)], "drug_other"),
            Some(Truth::Unknown)
        );
        assert_eq!(
            sent(&[course(20, Some(10))], "drug_other"),
            Some(Truth::False)
        );
        assert_eq!(
            sent(&[course(31, Some(20))], "drug_other"),
            Some(Truth::True)
        );
        assert_eq!(sent(&[course(60, Some(31))], "drug_other"), None);
    }

    #[test]
    fn a_film_belongs_to_its_specimen() {
        let seen = |minutes| {
            let mut fact = on("schistocytes", 0);
            fact.from = fact.from.map(|from| from - Duration::minutes(minutes));
            sent(&[fact], "schistocytes")
        };
        assert_eq!(seen(0), Some(Truth::True));
        assert_eq!(seen(1), None);
        let mut day_only = on("schistocytes", 0);
        day_only.from = Some(datetime!(2026-11-18 00:00 UTC));
        assert_eq!(sent(&[day_only], "schistocytes"), Some(Truth::True));
    }

    #[test]
    fn of_several_examinations_the_newest_counts() {
        let examined = |truth, days| fact("splenomegaly@observed", truth, Some(days), None);
        assert_eq!(
            sent(
                &[examined(Truth::True, 90), examined(Truth::False, 1)],
                "splenomegaly"
            ),
            Some(Truth::False)
        );
        // A diagnosis that stands is not withdrawn by an examination.
        assert_eq!(
            sent(
                &[
                    fact("splenomegaly", Truth::True, Some(90), None),
                    examined(Truth::False, 1)
                ],
                "splenomegaly"
            ),
            Some(Truth::True)
        );
        let tested = |truth, days| fact("breakage_positive", truth, Some(days), None);
        assert_eq!(
            sent(
                &[tested(Truth::True, 400), tested(Truth::False, 30)],
                "breakage_positive"
            ),
            Some(Truth::False)
        );
    }

    #[test]
    fn what_a_donor_says_is_not_the_patient() {
        let graft = on("hsct@allogeneic", 200);
        let gene = |days| fact("gene:FANC", Truth::True, Some(days), None);
        assert_eq!(
            sent(&[graft.clone(), gene(100)], "gene:FANC"),
            Some(Truth::Unknown)
        );
        assert_eq!(sent(&[graft, gene(300)], "gene:FANC"), Some(Truth::True));
        let autologous = on("hsct@autologous", 200);
        assert_eq!(
            sent(&[autologous, gene(100)], "gene:FANC"),
            Some(Truth::True)
        );
        let transfused = on("rbc_transfusion", 30);
        let high = |days| fact("hbf_high", Truth::True, Some(days), None);
        assert_eq!(
            sent(&[transfused.clone(), high(10)], "hbf_high"),
            Some(Truth::Unknown)
        );
        assert_eq!(sent(&[transfused, high(40)], "hbf_high"), Some(Truth::True));
    }

    #[test]
    fn a_known_marrow_disease_came_before() {
        let mds = |days| fact("dx:mds", Truth::True, Some(days), None);
        assert_eq!(sent(&[mds(1)], "prior_mds"), Some(Truth::True));
        assert_eq!(sent(&[mds(0)], "prior_mds"), Some(Truth::Unknown));
        assert_eq!(
            sent(&[fact("dx:itp", Truth::True, Some(90), None)], "prior_mds"),
            None
        );
    }

    #[test]
    fn reserved_codes_wait_for_company() {
        let unspecified = fact("leishmania@unspecified", Truth::True, Some(5), None);
        assert_eq!(
            sent(std::slice::from_ref(&unspecified), "leishmania"),
            Some(Truth::Unknown)
        );
        let spleen = fact("splenomegaly", Truth::True, Some(5), None);
        assert_eq!(
            sent(&[unspecified, spleen], "leishmania"),
            Some(Truth::True)
        );
        let swollen = fact("lymphoedema@unprovoked", Truth::True, Some(5), None);
        assert_eq!(
            sent(std::slice::from_ref(&swollen), "lymphoedema"),
            Some(Truth::True)
        );
        assert_eq!(
            sent(&[swollen, on("rt", 30)], "lymphoedema"),
            Some(Truth::Unknown)
        );
    }

    #[test]
    fn reasons_to_be_quiet() {
        let reasons = |facts: &[Fact]| quiet(facts, &tokens(facts), INDEX);
        assert_eq!(reasons(&[]), Quiet::default());
        assert!(reasons(&[on("chemo", 42)]).chemotherapy);
        assert!(!reasons(&[on("chemo", 43)]).chemotherapy);
        assert!(reasons(&[on("chemo_plan", 42)]).chemotherapy);
        assert!(reasons(&[on("hsct", 100)]).transplant);
        assert!(!reasons(&[fact("post_hsct_status", Truth::True, None, None)]).transplant);
        let comfort = |until| fact("palliative", Truth::True, Some(20), until);
        assert!(reasons(&[comfort(None)]).palliative);
        assert!(reasons(&[comfort(Some(0))]).palliative);
        assert!(!reasons(&[comfort(Some(1))]).palliative);
        let dba = |token: &str| reasons(&[fact(token, Truth::True, Some(50), None)]).known_bmf;
        assert_eq!(dba("dx:dba"), Some("dx:dba"));
        assert_eq!(dba("dx:dba@D6101"), None);
        assert_eq!(dba("dx:dba@text"), None);
        assert_eq!(dba("dx:neutropenia"), None);
    }

    #[test]
    fn the_same_said_twice_keeps_both_sources_and_the_earliest_start() {
        let said = |handle, days_before| Fact {
            source: Source {
                handle,
                ..Source::default()
            },
            ..fact("cirrhosis", Truth::True, Some(days_before), None)
        };
        for facts in [[said(1, 400), said(2, 300)], [said(2, 300), said(1, 400)]] {
            let tokens = tokens(&facts);
            let state = tokens.get("cirrhosis").unwrap();
            let mut handles: Vec<u32> = state.sources.iter().map(|one| one.handle).collect();
            handles.sort_unstable();
            assert_eq!((state.since, handles), (Some(at(400)), vec![1, 2]));
        }
    }

    #[test]
    fn one_token_is_answered_as_all_of_them() {
        let facts = [
            on("chemo", 10),
            on("hsct@allogeneic", 90),
            fact("cirrhosis", Truth::True, Some(400), None),
            fact("hbf_high", Truth::True, Some(5), None),
            on("rbc_transfusion", 20),
            on("plt_transfusion", 2),
            on("gcsf", 10),
            on("gcsf_peg", 20),
            on("rt", 50),
            on("viral", 40),
            on("bacterial", 40),
            on("hepatitis", 100),
        ];
        let all = tokens(&facts);
        for derived in [
            "chemo_21",
            "chemo_42",
            "rt_60",
            "hsct_recent",
            "gcsf_14",
            "rbc_transfusion_120d",
            "plt_transfusion_3d",
            "viral_recent",
            "bacterial_recent",
            "hepatitis_recent",
        ] {
            assert!(all.truth(derived).is_true(), "{derived}");
        }
        for (token, state) in all.iter() {
            let one = Tokens::one(token, &facts, &Person::default(), INDEX);
            assert_eq!(one.as_ref(), Some(state), "{token}");
        }
        assert_eq!(
            Tokens::one("bleeding", &facts, &Person::default(), INDEX),
            None
        );
    }
}
