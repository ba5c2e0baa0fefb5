//! What is measured, in which canonical unit (UCUM), and how it is printed.
//!
//! Source of keys, units and printing precision: the analyte table of the clinical
//! specification (section 1) and the LOINC table shipped in `src/fhir`.

/// A quantity of the blood count, or of the tests beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[rustfmt::skip]
pub enum Analyte {
    /// Haemoglobin, g/L.
    Hb,
    /// Haematocrit, L/L.
    Hct,
    /// Red cells, 10*12/L.
    Rbc,
    /// Mean cell volume, fL.
    Mcv,
    /// Mean cell haemoglobin, pg.
    Mch,
    /// Mean cell haemoglobin concentration, g/L.
    Mchc,
    /// Red cell distribution width (CV), %.
    Rdw,
    /// Red cell distribution width (SD), fL.
    RdwSd,
    /// White cells, 10*9/L.
    Wbc,
    /// White cells, corrected for nucleated red cells, 10*9/L.
    WbcCorrected,
    /// Neutrophils, 10*9/L.
    Anc,
    /// Neutrophils, manual count, 10*9/L.
    AncManual,
    /// Neutrophils, %.
    NeutrophilPercent,
    /// Segmented neutrophils, 10*9/L.
    SegsAbsolute,
    /// Segmented neutrophils, %.
    SegsPercent,
    /// Band neutrophils, 10*9/L.
    BandsAbsolute,
    /// Band neutrophils, %.
    BandsPercent,
    /// Granulocytes, 10*9/L.
    GranulocytesAbsolute,
    /// Granulocytes, %.
    GranulocytesPercent,
    /// Lymphocytes, 10*9/L.
    Alc,
    /// Lymphocytes, %.
    LymphocytePercent,
    /// Atypical lymphocytes, 10*9/L.
    AtypicalLymphocytesAbsolute,
    /// Atypical lymphocytes, %.
    AtypicalLymphocytesPercent,
    /// Large granular lymphocytes, 10*9/L.
    LglAbsolute,
    /// Large granular lymphocytes, %.
    LglPercent,
    /// Hairy cells, %.
    HairyPercent,
    /// Plasma cells, %.
    PlasmaPercent,
    /// Monocytes, 10*9/L.
    Amc,
    /// Monocytes, %.
    MonocytePercent,
    /// Promonocytes, %.
    PromonocytePercent,
    /// Eosinophils, 10*9/L.
    Eosinophils,
    /// Eosinophils, %.
    EosinophilPercent,
    /// Basophils, 10*9/L.
    Basophils,
    /// Basophils, %.
    BasophilPercent,
    /// Blasts, %.
    Blasts,
    /// Blasts, 10*9/L.
    BlastsAbsolute,
    /// Myeloblasts, %.
    MyeloblastPercent,
    /// Myeloblasts, 10*9/L.
    MyeloblastAbsolute,
    /// Monoblasts, %.
    MonoblastPercent,
    /// Monoblasts, 10*9/L.
    MonoblastAbsolute,
    /// Lymphoblasts, %.
    LymphoblastPercent,
    /// Lymphoblasts, 10*9/L.
    LymphoblastAbsolute,
    /// Promyelocytes, %.
    PromyelocytePercent,
    /// Promyelocytes, 10*9/L.
    PromyelocyteAbsolute,
    /// Myelocytes, %.
    MyelocytePercent,
    /// Myelocytes, 10*9/L.
    MyelocyteAbsolute,
    /// Metamyelocytes, %.
    MetamyelocytePercent,
    /// Metamyelocytes, 10*9/L.
    MetamyelocyteAbsolute,
    /// Other cells, %.
    OtherCellsPercent,
    /// Other white cells, %.
    OtherWhiteCellsPercent,
    /// Nucleated red cells, /100{WBCs}.
    Nrbc,
    /// Nucleated red cells, 10*9/L.
    NrbcAbsolute,
    /// Immature granulocytes, %.
    ImmatureGranulocytes,
    /// Immature granulocytes, 10*9/L.
    ImmatureGranulocytesAbsolute,
    /// Reticulocytes, 10*9/L.
    Arc,
    /// Reticulocytes, %.
    ReticulocytePercent,
    /// Reticulocytes, corrected, %.
    ReticulocytePercentCorrected,
    /// Immature reticulocyte fraction, %.
    Irf,
    /// Immature reticulocytes, 10*9/L.
    IrfAbsolute,
    /// Reticulocyte haemoglobin, pg.
    ReticulocyteHb,
    /// Platelets, 10*9/L.
    Platelets,
    /// Mean platelet volume, fL.
    Mpv,
    /// Immature platelet fraction, %.
    Ipf,
    /// Immature platelets, 10*9/L.
    IpfAbsolute,
    /// Lactate dehydrogenase, U/L.
    Ldh,
    /// Haptoglobin, g/L.
    Haptoglobin,
    /// Bilirubin, umol/L.
    Bilirubin,
    /// Bilirubin, indirect, umol/L.
    BilirubinIndirect,
    /// Bilirubin, direct, umol/L.
    BilirubinDirect,
    /// Vitamin B12, pmol/L.
    B12,
    /// Folate, nmol/L.
    Folate,
    /// Ferritin, ug/L.
    Ferritin,
    /// Transferrin saturation, %.
    Tsat,
    /// Iron, umol/L.
    Iron,
    /// Total iron binding capacity, umol/L.
    Tibc,
    /// Transferrin, g/L.
    Transferrin,
    /// Copper, umol/L.
    Copper,
    /// Zinc, umol/L.
    Zinc,
    /// Haemoglobin F, %.
    HbF,
    /// Creatinine, umol/L.
    Creatinine,
    /// Estimated glomerular filtration rate, `mL/min/{1.73_m2}`.
    Egfr,
    /// C-reactive protein, mg/L.
    Crp,
    /// Alanine aminotransferase, U/L.
    Alt,
    /// Aspartate aminotransferase, U/L.
    Ast,
    /// PNH clone, granulocytes, %.
    Pnh,
    /// PNH clone, monocytes, %.
    PnhMonocytes,
    /// PNH clone, red cells, %.
    PnhRedCells,
    /// Faecal elastase-1, ug/g.
    FaecalElastase,
    /// Lactate, mmol/L.
    Lactate,
    /// Marrow cellularity, %.
    MarrowCellularity,
    /// Marrow blasts, %.
    MarrowBlasts,
    /// Ring sideroblasts, %.
    RingSideroblasts,
    /// Fibrinogen, g/L.
    Fibrinogen,
    /// Triglycerides, mmol/L.
    Triglycerides,
    /// Soluble CD25, U/mL.
    SolubleCd25,
    /// ADAMTS13 activity, %.
    Adamts13,
    /// Thyrotropin, m[IU]/L.
    Tsh,
    /// Erythropoietin, [IU]/L.
    Erythropoietin,
    /// Body temperature, Cel.
    Temperature,
}

/// Everything fixed about an analyte.
struct Properties(Analyte, &'static str, &'static str, &'static str, u32);

#[rustfmt::skip]
const TABLE: &[Properties] = &[
    Properties(Analyte::Hb, "hb", "g/L", "Haemoglobin", 0),
    Properties(Analyte::Hct, "hct", "L/L", "Haematocrit", 3),
    Properties(Analyte::Rbc, "rbc", "10*12/L", "Red cells", 2),
    Properties(Analyte::Mcv, "mcv", "fL", "Mean cell volume", 1),
    Properties(Analyte::Mch, "mch", "pg", "Mean cell haemoglobin", 1),
    Properties(Analyte::Mchc, "mchc", "g/L", "Mean cell haemoglobin concentration", 0),
    Properties(Analyte::Rdw, "rdw", "%", "Red cell distribution width (CV)", 1),
    Properties(Analyte::RdwSd, "rdw_sd", "fL", "Red cell distribution width (SD)", 1),
    Properties(Analyte::Wbc, "wbc", "10*9/L", "White cells", 2),
    Properties(Analyte::WbcCorrected, "wbc_corr", "10*9/L", "White cells, corrected for nucleated red cells", 2),
    Properties(Analyte::Anc, "anc", "10*9/L", "Neutrophils", 3),
    Properties(Analyte::AncManual, "anc_man", "10*9/L", "Neutrophils, manual count", 3),
    Properties(Analyte::NeutrophilPercent, "neut_pct", "%", "Neutrophils", 1),
    Properties(Analyte::SegsAbsolute, "segs_abs", "10*9/L", "Segmented neutrophils", 3),
    Properties(Analyte::SegsPercent, "segs_pct", "%", "Segmented neutrophils", 1),
    Properties(Analyte::BandsAbsolute, "bands_abs", "10*9/L", "Band neutrophils", 3),
    Properties(Analyte::BandsPercent, "bands_pct", "%", "Band neutrophils", 1),
    Properties(Analyte::GranulocytesAbsolute, "gran_abs", "10*9/L", "Granulocytes", 3),
    Properties(Analyte::GranulocytesPercent, "gran_pct", "%", "Granulocytes", 1),
    Properties(Analyte::Alc, "alc", "10*9/L", "Lymphocytes", 3),
    Properties(Analyte::LymphocytePercent, "lymph_pct", "%", "Lymphocytes", 1),
    Properties(Analyte::AtypicalLymphocytesAbsolute, "atyp_lymph_abs", "10*9/L", "Atypical lymphocytes", 3),
    Properties(Analyte::AtypicalLymphocytesPercent, "atyp_lymph_pct", "%", "Atypical lymphocytes", 1),
    Properties(Analyte::LglAbsolute, "lgl_abs", "10*9/L", "Large granular lymphocytes", 3),
    Properties(Analyte::LglPercent, "lgl_pct", "%", "Large granular lymphocytes", 1),
    Properties(Analyte::HairyPercent, "hairy_pct", "%", "Hairy cells", 1),
    Properties(Analyte::PlasmaPercent, "plasma_pct", "%", "Plasma cells", 1),
    Properties(Analyte::Amc, "amc", "10*9/L", "Monocytes", 3),
    Properties(Analyte::MonocytePercent, "mono_pct", "%", "Monocytes", 1),
    Properties(Analyte::PromonocytePercent, "promono_pct", "%", "Promonocytes", 1),
    Properties(Analyte::Eosinophils, "eos", "10*9/L", "Eosinophils", 3),
    Properties(Analyte::EosinophilPercent, "eos_pct", "%", "Eosinophils", 1),
    Properties(Analyte::Basophils, "baso", "10*9/L", "Basophils", 3),
    Properties(Analyte::BasophilPercent, "baso_pct", "%", "Basophils", 1),
    Properties(Analyte::Blasts, "blast", "%", "Blasts", 1),
    Properties(Analyte::BlastsAbsolute, "blast_abs", "10*9/L", "Blasts", 3),
    Properties(Analyte::MyeloblastPercent, "myeloblast_pct", "%", "Myeloblasts", 1),
    Properties(Analyte::MyeloblastAbsolute, "myeloblast_abs", "10*9/L", "Myeloblasts", 3),
    Properties(Analyte::MonoblastPercent, "monoblast_pct", "%", "Monoblasts", 1),
    Properties(Analyte::MonoblastAbsolute, "monoblast_abs", "10*9/L", "Monoblasts", 3),
    Properties(Analyte::LymphoblastPercent, "lymphoblast_pct", "%", "Lymphoblasts", 1),
    Properties(Analyte::LymphoblastAbsolute, "lymphoblast_abs", "10*9/L", "Lymphoblasts", 3),
    Properties(Analyte::PromyelocytePercent, "promyelo_pct", "%", "Promyelocytes", 1),
    Properties(Analyte::PromyelocyteAbsolute, "promyelo_abs", "10*9/L", "Promyelocytes", 3),
    Properties(Analyte::MyelocytePercent, "myelo_pct", "%", "Myelocytes", 1),
    Properties(Analyte::MyelocyteAbsolute, "myelo_abs", "10*9/L", "Myelocytes", 3),
    Properties(Analyte::MetamyelocytePercent, "metamyelo_pct", "%", "Metamyelocytes", 1),
    Properties(Analyte::MetamyelocyteAbsolute, "metamyelo_abs", "10*9/L", "Metamyelocytes", 3),
    Properties(Analyte::OtherCellsPercent, "other_cells_pct", "%", "Other cells", 1),
    Properties(Analyte::OtherWhiteCellsPercent, "other_wbc_pct", "%", "Other white cells", 1),
    Properties(Analyte::Nrbc, "nrbc", "/100{WBCs}", "Nucleated red cells", 1),
    Properties(Analyte::NrbcAbsolute, "nrbc_abs", "10*9/L", "Nucleated red cells", 3),
    Properties(Analyte::ImmatureGranulocytes, "ig", "%", "Immature granulocytes", 1),
    Properties(Analyte::ImmatureGranulocytesAbsolute, "ig_abs", "10*9/L", "Immature granulocytes", 3),
    Properties(Analyte::Arc, "arc", "10*9/L", "Reticulocytes", 1),
    Properties(Analyte::ReticulocytePercent, "retp", "%", "Reticulocytes", 2),
    Properties(Analyte::ReticulocytePercentCorrected, "retp_corr", "%", "Reticulocytes, corrected", 2),
    Properties(Analyte::Irf, "irf", "%", "Immature reticulocyte fraction", 1),
    Properties(Analyte::IrfAbsolute, "irf_abs", "10*9/L", "Immature reticulocytes", 1),
    Properties(Analyte::ReticulocyteHb, "ret_he", "pg", "Reticulocyte haemoglobin", 1),
    Properties(Analyte::Platelets, "plt", "10*9/L", "Platelets", 0),
    Properties(Analyte::Mpv, "mpv", "fL", "Mean platelet volume", 1),
    Properties(Analyte::Ipf, "ipf", "%", "Immature platelet fraction", 1),
    Properties(Analyte::IpfAbsolute, "ipf_abs", "10*9/L", "Immature platelets", 1),
    Properties(Analyte::Ldh, "ldh", "U/L", "Lactate dehydrogenase", 0),
    Properties(Analyte::Haptoglobin, "hapto", "g/L", "Haptoglobin", 2),
    Properties(Analyte::Bilirubin, "bili", "umol/L", "Bilirubin", 0),
    Properties(Analyte::BilirubinIndirect, "bili_indirect", "umol/L", "Bilirubin, indirect", 0),
    Properties(Analyte::BilirubinDirect, "bili_direct", "umol/L", "Bilirubin, direct", 0),
    Properties(Analyte::B12, "b12", "pmol/L", "Vitamin B12", 0),
    Properties(Analyte::Folate, "folate", "nmol/L", "Folate", 1),
    Properties(Analyte::Ferritin, "ferritin", "ug/L", "Ferritin", 0),
    Properties(Analyte::Tsat, "tsat", "%", "Transferrin saturation", 0),
    Properties(Analyte::Iron, "iron", "umol/L", "Iron", 1),
    Properties(Analyte::Tibc, "tibc", "umol/L", "Total iron binding capacity", 1),
    Properties(Analyte::Transferrin, "transferrin", "g/L", "Transferrin", 2),
    Properties(Analyte::Copper, "cu", "umol/L", "Copper", 1),
    Properties(Analyte::Zinc, "zn", "umol/L", "Zinc", 1),
    Properties(Analyte::HbF, "hbf", "%", "Haemoglobin F", 1),
    Properties(Analyte::Creatinine, "creat", "umol/L", "Creatinine", 0),
    Properties(Analyte::Egfr, "egfr", "mL/min/{1.73_m2}", "Estimated glomerular filtration rate", 0),
    Properties(Analyte::Crp, "crp", "mg/L", "C-reactive protein", 1),
    Properties(Analyte::Alt, "alt", "U/L", "Alanine aminotransferase", 0),
    Properties(Analyte::Ast, "ast", "U/L", "Aspartate aminotransferase", 0),
    Properties(Analyte::Pnh, "pnh", "%", "PNH clone, granulocytes", 2),
    Properties(Analyte::PnhMonocytes, "pnh_mono", "%", "PNH clone, monocytes", 2),
    Properties(Analyte::PnhRedCells, "pnh_rbc", "%", "PNH clone, red cells", 2),
    Properties(Analyte::FaecalElastase, "felast", "ug/g", "Faecal elastase-1", 0),
    Properties(Analyte::Lactate, "lactate", "mmol/L", "Lactate", 1),
    Properties(Analyte::MarrowCellularity, "bmcell", "%", "Marrow cellularity", 0),
    Properties(Analyte::MarrowBlasts, "bmblast", "%", "Marrow blasts", 0),
    Properties(Analyte::RingSideroblasts, "bmring", "%", "Ring sideroblasts", 0),
    Properties(Analyte::Fibrinogen, "fib", "g/L", "Fibrinogen", 1),
    Properties(Analyte::Triglycerides, "tg", "mmol/L", "Triglycerides", 1),
    Properties(Analyte::SolubleCd25, "scd25", "U/mL", "Soluble CD25", 0),
    Properties(Analyte::Adamts13, "adamts13", "%", "ADAMTS13 activity", 0),
    Properties(Analyte::Tsh, "tsh", "m[IU]/L", "Thyrotropin", 1),
    Properties(Analyte::Erythropoietin, "epo", "[IU]/L", "Erythropoietin", 0),
    Properties(Analyte::Temperature, "temperature", "Cel", "Body temperature", 1),
];

impl Analyte {
    /// All analytes, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|properties| properties.0)
    }

    /// The analyte with this key (`hb`, `wbc`, `neut_pct`, ...).
    pub fn from_key(key: &str) -> Option<Self> {
        TABLE
            .iter()
            .find(|properties| properties.1 == key)
            .map(|properties| properties.0)
    }

    fn properties(self) -> &'static Properties {
        // The table lists the variants in their own order; `every_analyte_has_its_row` guards it.
        const FALLBACK: &Properties = &Properties(Analyte::Hb, "hb", "g/L", "Haemoglobin", 0);
        TABLE.get(self as usize).unwrap_or(FALLBACK)
    }

    /// Stable key, as used in case tables and by `marrowflag read`.
    pub fn key(self) -> &'static str {
        self.properties().1
    }

    /// Canonical unit, UCUM.
    pub fn unit(self) -> &'static str {
        self.properties().2
    }

    /// Name for a reader.
    pub fn name(self) -> &'static str {
        self.properties().3
    }

    /// Decimals a converted value is printed with (never used before a comparison).
    pub fn decimals(self) -> u32 {
        self.properties().4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_analyte_has_its_row() {
        for (position, properties) in TABLE.iter().enumerate() {
            assert_eq!(properties.0 as usize, position, "{}", properties.1);
            assert_eq!(Analyte::from_key(properties.1), Some(properties.0));
        }
    }
}
