//! Under which key a later version of the same resource is recognised.

use sha2::{Digest, Sha256};

use super::{
    PatientKey, ResultKey, Site,
    references::{Index, identifier, is_rest_address, without_version},
    sampling::Specimen,
};
use crate::{
    clinical::time::SampleTime,
    fhir::{
        submission::{Method, Request},
        tree::Tree,
    },
};

/// Key of idempotency layer 3: identifier, REST address, else a hash over what was sent.
pub(super) fn of_result(
    index: &Index<'_, '_>,
    site: &Site<'_>,
    keys: &[PatientKey],
    at: Option<SampleTime>,
    specimen: Option<&Specimen>,
) -> ResultKey {
    strong(index, site).unwrap_or_else(|| {
        let mut hash = Hash::of(keys);
        hash.add(
            &at.map(|at| at.instant.unix_timestamp().to_string())
                .unwrap_or_default(),
        );
        hash.add(
            specimen
                .and_then(|specimen| specimen.key.as_deref())
                .unwrap_or_default(),
        );
        for holder in std::iter::once(site.tree).chain(site.tree.items("component")) {
            for (name, value) in holder.members() {
                if name == "code" || name.starts_with("value") {
                    hash.add_tree(value);
                }
            }
        }
        hash.finish()
    })
}

/// Key of a resource that is no result: as of a result, with everything in the hash but what a later
/// version changes.
pub(super) fn of_fact(index: &Index<'_, '_>, site: &Site<'_>, keys: &[PatientKey]) -> ResultKey {
    strong(index, site).unwrap_or_else(|| {
        let mut hash = Hash::of(keys);
        for (name, value) in site.tree.members() {
            if !matches!(
                name.as_ref(),
                "id" | "meta" | "text" | "status" | "verificationStatus" | "clinicalStatus"
            ) {
                hash.add(name);
                hash.add_tree(value);
            }
        }
        hash.finish()
    })
}

/// An identifier, or an address under which the resource can be read again. Ids alone come again in
/// the next submission and name nothing.
fn strong(index: &Index<'_, '_>, site: &Site<'_>) -> Option<ResultKey> {
    if let Some((system, value)) = site.tree.items("identifier").iter().find_map(identifier) {
        return Some(ResultKey::Identifier { system, value });
    }
    let entry = index.entry(site.entry).filter(|_| !site.contained)?;
    if let Some(Request {
        method: Method::Put,
        url,
        ..
    }) = &entry.request
        && url.contains('/')
    {
        return Some(ResultKey::Url(without_version(url).to_owned()));
    }
    let url = entry.full_url.filter(|url| is_rest_address(url))?;
    Some(ResultKey::Url(without_version(url).to_owned()))
}

/// The weak key: nothing better was sent.
struct Hash(Sha256);

impl Hash {
    fn of(keys: &[PatientKey]) -> Self {
        let mut hash = Self(Sha256::new());
        match keys.first() {
            Some(PatientKey::Identifier { system, value }) => {
                hash.add(system);
                hash.add(value);
            }
            Some(PatientKey::Reference(reference)) => hash.add(reference),
            None => {}
        }
        hash
    }

    fn add(&mut self, text: &str) {
        // The length keeps neighbouring texts apart.
        self.0.update(text.len().to_le_bytes());
        self.0.update(text);
    }

    fn add_tree(&mut self, tree: &Tree<'_>) {
        match tree {
            Tree::Null => self.add("null"),
            Tree::Bool(value) => self.add(if *value { "true" } else { "false" }),
            Tree::Number(text) | Tree::String(text) => self.add(text),
            Tree::Array(items) => items.iter().for_each(|item| self.add_tree(item)),
            Tree::Object(members) => {
                for (name, value) in members {
                    self.add(name);
                    self.add_tree(value);
                }
            }
        }
    }

    fn finish(self) -> ResultKey {
        let mut weak = [0; 16];
        for (to, from) in weak.iter_mut().zip(self.0.finalize()) {
            *to = from;
        }
        ResultKey::Weak(weak)
    }
}
