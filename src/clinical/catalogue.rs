//! Every disorder, cause, test, sign and treatment that patients and their doctors read about in
//! public pages on bone-marrow failure, and what this model does with it.
//!
//! The rule book prints the table; a test fails when an entry points at a rule, a token or a
//! suggestion that does not exist.

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A disease or a named condition.
    Disorder,
    /// Something that brings one about.
    Cause,
    /// A test or procedure.
    Test,
    /// A sign or symptom.
    Sign,
    /// A treatment that changes how counts are read.
    Treatment,
}

/// Where the model takes an entry up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Rule, count pattern or safety rule with this id.
    Rule(&'static str),
    /// Finding token that a rule reads.
    Token(&'static str),
    /// The suggested work-up of this rule names it, in these words.
    WorkUp(&'static str, &'static str),
    /// Measured quantity that a rule compares.
    Measured(&'static str),
    /// Handled outside the rules, or deliberately not used; the sentence says how.
    Said(&'static str),
}

/// One entry.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: &'static str,
    /// Where it is taken up; at least one.
    pub uses: &'static [Use],
}

use Kind::{Cause, Disorder, Sign, Test, Treatment};
use Use::{Measured, Rule, Said, Token, WorkUp};

const fn entry(kind: Kind, name: &'static str, uses: &'static [Use]) -> Entry {
    Entry { kind, name, uses }
}

/// All entries.
#[rustfmt::skip]
pub static ALL: &[Entry] = &[
    entry(Disorder, "Bone marrow failure, umbrella term", &[Rule("C1"), Rule("C2"), Rule("C3h"), Rule("C4"), Rule("C5")]),
    entry(Disorder, "Aplastic anaemia, acquired", &[Rule("D01")]),
    entry(Disorder, "Inherited bone marrow failure syndromes", &[Rule("D07"), Rule("D09"), Rule("D10"), Rule("D11"), Rule("D12"), Rule("D13"), Rule("D14"), Rule("D15"), Rule("D16"), Rule("D17"), Rule("D18"), Rule("D19"), Rule("D20"), Rule("D21"), Rule("D22")]),
    entry(Disorder, "Myelodysplastic neoplasm (MDS)", &[Rule("D02")]),
    entry(Disorder, "Juvenile myelomonocytic leukaemia", &[Rule("D04")]),
    entry(Disorder, "Fanconi anaemia", &[Rule("D09")]),
    entry(Disorder, "Barth syndrome", &[Rule("D21")]),
    entry(Disorder, "Congenital amegakaryocytic thrombocytopenia", &[Rule("D12")]),
    entry(Disorder, "Congenital dyserythropoietic anaemia", &[Rule("D19")]),
    entry(Disorder, "Cyclic neutropenia", &[Rule("D15")]),
    entry(Disorder, "Diamond-Blackfan anaemia", &[Rule("D07")]),
    entry(Disorder, "Dubowitz syndrome", &[Rule("D22")]),
    entry(Disorder, "Dyskeratosis congenita", &[Rule("D10")]),
    entry(Disorder, "Short telomere syndromes", &[Rule("D10"), Token("telomere_below_1")]),
    entry(Disorder, "GATA2 deficiency", &[Rule("D16")]),
    entry(Disorder, "Kostmann syndrome", &[Rule("D14"), Token("gene:HAX1")]),
    entry(Disorder, "Severe congenital neutropenia", &[Rule("D14")]),
    entry(Disorder, "Pearson syndrome", &[Rule("D17")]),
    entry(Disorder, "Refractory cytopenia of childhood", &[Rule("D03")]),
    entry(Disorder, "Reticular dysgenesis", &[Rule("D18")]),
    entry(Disorder, "Shwachman-Diamond syndrome", &[Rule("D11")]),
    entry(Disorder, "Sideroblastic anaemia, inherited or acquired", &[Rule("D20")]),
    entry(Disorder, "Thrombocytopenia, unspecified", &[Rule("C5"), Rule("M07"), Rule("M13"), Rule("M15"), Rule("M19"), Rule("D12"), Rule("D13")]),
    entry(Disorder, "Thrombocytopenia with absent radii", &[Rule("D13")]),
    entry(Disorder, "Paroxysmal nocturnal haemoglobinuria", &[Rule("D05")]),
    entry(Disorder, "Pure red cell aplasia", &[Rule("D06")]),
    entry(Disorder, "Acute leukaemia", &[Rule("S01")]),
    entry(Disorder, "Lymphoma", &[Rule("M16"), Token("lymphoma")]),
    entry(Disorder, "Other cancers", &[Rule("M16"), Token("metastatic_cancer"), Token("scc_young")]),
    entry(Disorder, "Thalassaemia", &[Rule("M06"), Token("haemoglobinopathy")]),
    entry(Disorder, "Microcytic anaemia with leucopenia and thrombocytopenia", &[Rule("C1"), Rule("M06")]),
    entry(Disorder, "Neutropenia as an emergency", &[Rule("S02"), Rule("S03"), Rule("C4")]),
    entry(Disorder, "Pancytopenia", &[Rule("C1")]),
    entry(Disorder, "Autoimmune disease with low counts", &[Rule("M12"), Rule("D01")]),
    entry(Disorder, "Hepatitis-associated aplastic anaemia", &[Rule("D01"), Rule("M11"), Token("hepatitis_recent")]),
    entry(Disorder, "Epstein-Barr virus and other infections that suppress counts", &[Rule("M11"), Token("ebv")]),
    entry(Disorder, "Marrow suppression by chemotherapy or radiation", &[Rule("M02")]),
    entry(Disorder, "Marrow failure by drugs, chemicals, pesticides or benzene", &[Rule("M03"), Rule("D01")]),
    entry(Disorder, "Low counts in pregnancy", &[Rule("M13")]),
    entry(Disorder, "ICUS and CCUS", &[Rule("D02")]),
    entry(Disorder, "Transient erythroblastopenia of childhood", &[Rule("D08")]),
    entry(Disorder, "Duffy-null associated neutrophil count", &[Rule("M01")]),
    entry(Disorder, "Autoimmune neutropenia of infancy", &[Rule("M12"), Token("antineutrophil_ab")]),
    entry(Disorder, "Lupus, Felty syndrome, large granular lymphocytes, Evans syndrome", &[Rule("M12"), Token("autoimmune"), Token("lgl")]),
    entry(Disorder, "Vitamin B12 or folate deficiency", &[Rule("M04")]),
    entry(Disorder, "Copper deficiency or zinc excess", &[Rule("M05")]),
    entry(Disorder, "Iron deficiency; lead", &[Rule("M06"), WorkUp("M06", "lead")]),
    entry(Disorder, "Immune thrombocytopenia", &[Rule("M07")]),
    entry(Disorder, "Hypersplenism, portal hypertension, Gaucher disease", &[Rule("M08"), WorkUp("M08", "Gaucher")]),
    entry(Disorder, "Haemophagocytic lymphohistiocytosis", &[Rule("M09")]),
    entry(Disorder, "TTP, HUS and other thrombotic microangiopathy", &[Rule("M10")]),
    entry(Disorder, "HELLP, gestational thrombocytopenia", &[Rule("M13"), Token("hellp_labs")]),
    entry(Disorder, "Anaemia of kidney disease, inflammation, thyroid, alcohol or liver", &[Rule("M14")]),
    entry(Disorder, "Pseudothrombocytopenia", &[Rule("M15")]),
    entry(Disorder, "Marrow infiltration, myelofibrosis, hairy cell leukaemia", &[Rule("M16")]),
    entry(Disorder, "VEXAS syndrome", &[Rule("M17")]),
    entry(Disorder, "Haemolysis, bleeding, autoimmune haemolytic anaemia", &[Rule("M18")]),
    entry(Disorder, "Neonatal alloimmune and transient cytopenias", &[Rule("M19")]),
    entry(Disorder, "Other germline predisposition (SAMD9, MECOM, RUNX1, LIG4 and others)", &[WorkUp("D03", "SAMD9"), WorkUp("D12", "RUNX1"), WorkUp("D22", "LIG4")]),

    entry(Cause, "Damage to DNA of an immature blood cell", &[Rule("D02"), Token("clonal_mutation"), Token("mds_cytogenetics")]),
    entry(Cause, "Inherited or new gene change", &[Token("gene:FANC"), Token("gene:ELANE"), Token("gene:SBDS"), Token("gene:GATA2"), Token("gene:mtDNA")]),
    entry(Cause, "Recessive or dominant inheritance, parents as carriers", &[Token("family_bmf"), Token("family_mds_aml"), Token("consanguinity")]),
    entry(Cause, "Benzene, solvents, chemicals, pesticides", &[Token("tox_benzene"), Token("tox_pesticide")]),
    entry(Cause, "Radiation: accident or radiotherapy", &[Token("rad_accident"), Token("rt_60")]),
    entry(Cause, "Chemotherapy", &[Token("chemo_42"), Rule("M02")]),
    entry(Cause, "Medicines: antibiotics, painkillers and others", &[Token("drug_high"), Token("drug_other")]),
    entry(Cause, "Viral infection, hepatitis", &[Token("viral_recent"), Token("hepatitis_recent")]),
    entry(Cause, "Bacterial infection", &[Token("bacterial_recent"), Token("sepsis")]),
    entry(Cause, "Immune dysfunction", &[Token("autoimmune"), Rule("M12")]),
    entry(Cause, "Another disease", &[Rule("M08"), Rule("M09"), Rule("M10"), Rule("M14"), Rule("M16")]),
    entry(Cause, "Pregnancy", &[Rule("M13"), WorkUp("D01", "pregnancy test")]),
    entry(Cause, "No cause found (idiopathic)", &[Said("no candidate listed: the report says that other causes are possible")]),
    entry(Cause, "Tobacco and alcohol", &[Token("alcohol"), Said("smoking lowers the haemoglobin that is compared (WHO 2024)")]),
    entry(Cause, "Age", &[Said("limits and priors by age")]),
    entry(Cause, "Ancestry", &[Said("read by no rule; Duffy status only by typing")]),
    entry(Cause, "Sex", &[Rule("D21"), Rule("M17"), Said("haemoglobin limit from 15 years")]),

    entry(Test, "Complete blood count", &[Measured("hb"), Measured("plt"), Measured("anc"), Measured("wbc")]),
    entry(Test, "Reticulocyte count", &[Measured("arc")]),
    entry(Test, "Marrow aspirate and biopsy", &[Measured("bmcell"), Measured("bmblast"), WorkUp("D01", "trephine")]),
    entry(Test, "Chromosome breakage test", &[Token("breakage_positive"), WorkUp("D09", "breakage")]),
    entry(Test, "Medical and family history, examination", &[Token("family_bmf"), Token("short_stature")]),
    entry(Test, "Genetic testing", &[Token("gene:RP"), WorkUp("D01", "gene panel"), WorkUp("D09", "fibroblasts")]),
    entry(Test, "Flow cytometry", &[Measured("pnh"), Token("blow"), WorkUp("D05", "flow cytometry")]),
    entry(Test, "Cytogenetics", &[Token("monosomy7"), Token("mds_cytogenetics")]),
    entry(Test, "Imaging", &[Token("thymoma"), Token("splenomegaly"), WorkUp("D06", "CT of the thorax")]),
    entry(Test, "Stopping a suspect medicine", &[WorkUp("M03", "stopping or replacing")]),
    entry(Test, "Looking for hepatitis, pregnancy, infection", &[WorkUp("D01", "hepatitis"), WorkUp("M11", "serology")]),

    entry(Sign, "Pallor, tiredness, dizziness, breathlessness", &[Said("not specific: read by no rule")]),
    entry(Sign, "Recurrent or severe infections, fever", &[Token("recurrent_infection"), Token("severe_infection"), Token("fever"), Rule("S02")]),
    entry(Sign, "Bleeding, bruising, petechiae", &[Token("bleeding"), Rule("S05")]),
    entry(Sign, "Swollen lymph nodes, large spleen, bone pain", &[Token("lymphadenopathy"), Token("splenomegaly"), Token("bone_pain")]),
    entry(Sign, "Tooth loss, mouth sores", &[Token("dental_loss"), Token("mouth_ulcers")]),
    entry(Sign, "Lost or distorted nails", &[Token("nail_dystrophy")]),
    entry(Sign, "Small head, slow growth, short height", &[Token("microcephaly"), Token("short_stature"), Token("failure_to_thrive")]),
    entry(Sign, "Digestive problems, fatty stools", &[Token("steatorrhoea"), Token("pancreatic_insufficiency")]),
    entry(Sign, "Early grey hair", &[Token("early_grey_hair")]),
    entry(Sign, "Skin spots and pigment change", &[Token("cafe_au_lait"), Token("pigment_change"), Token("reticular_pigmentation")]),
    entry(Sign, "Anomalies of thumb, radius, kidney, heart, face", &[Token("thumb_radial_anomaly"), Token("absent_radii"), Token("renal_gu_anomaly"), Token("cardiac_defect"), Token("craniofacial")]),
    entry(Sign, "Iron in ring form in red cell precursors", &[Token("bm_ring"), Rule("D20")]),
    entry(Sign, "Blood clots", &[Token("thrombosis_unusual")]),

    entry(Treatment, "Red cell and platelet transfusion", &[Token("transfusion_dependent"), Said("\"not low\" is unknown inside the transfusion windows; MCV, HbF and eADA are dropped for 120 d")]),
    entry(Treatment, "Growth factors", &[Token("gcsf_14"), Token("esa"), Said("neutrophils \"not low\" are unknown inside the G-CSF window")]),
    entry(Treatment, "Immunosuppressive drugs, ATG, ciclosporin", &[Token("immunosuppressed"), Said("known aplastic anaemia is a quiet context")]),
    entry(Treatment, "Corticosteroids and androgens", &[Token("steroid_high")]),
    entry(Treatment, "Stem cell transplant", &[Token("hsct_recent"), Rule("M02"), Said("after an allogeneic transplant no inherited syndrome is judged from donor blood")]),
    entry(Treatment, "Antibiotics, antivirals, antifungals", &[Token("drug_other")]),
    entry(Treatment, "Gene therapy", &[Said("read by no rule")]),
];
