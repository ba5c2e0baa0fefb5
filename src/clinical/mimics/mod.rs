//! Mimics (M): what argues against, or explains the counts without, primary marrow failure.

pub mod m01_duffy_null;
pub mod m02_expected_suppression;
pub mod m03_drug_or_toxin;
pub mod m04_b12_folate;
pub mod m05_copper;
pub mod m06_microcytic;
pub mod m07_itp;
pub mod m08_hypersplenism;
pub mod m09_hlh;
pub mod m10_tma;
pub mod m11_infection;
pub mod m12_autoimmune;
pub mod m13_pregnancy;
pub mod m14_chronic_disease;
pub mod m15_pseudothrombocytopenia;
pub mod m16_infiltration;
pub mod m17_vexas;
pub mod m18_haemolysis_or_bleeding;
pub mod m19_neonatal;

use super::rule::prelude::*;

/// A lack of B12, folate or copper, which can imitate a marrow failure.
pub static DEFICIENCY: Criterion = Any(&[
    Below(B12, &m04_b12_folate::B12_LOW),
    Below(FOLATE, &m04_b12_folate::FOLATE_LOW),
    Below(COPPER, &m05_copper::COPPER_LOW),
]);

/// All, in the order of their ids.
pub static ALL: &[&Rule] = &[
    &m01_duffy_null::RULE,
    &m02_expected_suppression::RULE,
    &m03_drug_or_toxin::RULE,
    &m04_b12_folate::RULE,
    &m05_copper::RULE,
    &m06_microcytic::RULE,
    &m07_itp::RULE,
    &m08_hypersplenism::RULE,
    &m09_hlh::RULE,
    &m10_tma::RULE,
    &m11_infection::RULE,
    &m12_autoimmune::RULE,
    &m13_pregnancy::RULE,
    &m14_chronic_disease::RULE,
    &m15_pseudothrombocytopenia::RULE,
    &m16_infiltration::RULE,
    &m17_vexas::RULE,
    &m18_haemolysis_or_bleeding::RULE,
    &m19_neonatal::RULE,
];
