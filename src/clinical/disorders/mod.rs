//! Disorders (D): candidates of marrow failure, inherited and clonal disease.

pub mod d01_aplastic_anaemia;
pub mod d02_mds;
pub mod d03_refractory_cytopenia_of_childhood;
pub mod d04_jmml;
pub mod d05_pnh;
pub mod d06_pure_red_cell_aplasia;
pub mod d07_diamond_blackfan;
pub mod d08_transient_erythroblastopenia;
pub mod d09_fanconi;
pub mod d10_telomere;
pub mod d11_shwachman_diamond;
pub mod d12_camt;
pub mod d13_tar;
pub mod d14_severe_congenital_neutropenia;
pub mod d15_cyclic_neutropenia;
pub mod d16_gata2;
pub mod d17_pearson;
pub mod d18_reticular_dysgenesis;
pub mod d19_cda;
pub mod d20_sideroblastic;
pub mod d21_barth;
pub mod d22_syndromic;

use super::rule::Rule;

/// All, in the order of their ids.
pub static ALL: &[&Rule] = &[
    &d01_aplastic_anaemia::RULE,
    &d02_mds::RULE,
    &d03_refractory_cytopenia_of_childhood::RULE,
    &d04_jmml::RULE,
    &d05_pnh::RULE,
    &d06_pure_red_cell_aplasia::RULE,
    &d07_diamond_blackfan::RULE,
    &d08_transient_erythroblastopenia::RULE,
    &d09_fanconi::RULE,
    &d10_telomere::RULE,
    &d11_shwachman_diamond::RULE,
    &d12_camt::RULE,
    &d13_tar::RULE,
    &d14_severe_congenital_neutropenia::RULE,
    &d15_cyclic_neutropenia::RULE,
    &d16_gata2::RULE,
    &d17_pearson::RULE,
    &d18_reticular_dysgenesis::RULE,
    &d19_cda::RULE,
    &d20_sideroblastic::RULE,
    &d21_barth::RULE,
    &d22_syndromic::RULE,
];
