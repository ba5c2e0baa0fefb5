//! Keys: what a result is recognised by, and the ids that are made of them.

use data_encoding::{BASE32_NOPAD, Encoding};
use sha2::{Digest, Sha256};

use super::lease::PatientId;
use crate::fhir::read::ResultKey;

/// A hash of 32 bytes: of a patient's key (keyed, so that nobody can guess its way back), or of
/// a body.
pub type Hash = [u8; 32];

/// What a later version of the same result is recognised by, within one patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResultId(pub [u8; 16]);

impl ResultId {
    /// The id of a resource of type `kind`.
    ///
    /// An address is only as wide as the client that gave it; an identifier means the same
    /// whoever sends it.
    pub fn of(kind: &str, client: &str, key: &ResultKey) -> Self {
        match key {
            ResultKey::Identifier { system, value } => Self::hash(&[
                b"identifier",
                kind.as_bytes(),
                system.as_bytes(),
                value.as_bytes(),
            ]),
            ResultKey::Url(url) => {
                Self::hash(&[b"url", kind.as_bytes(), client.as_bytes(), url.as_bytes()])
            }
            ResultKey::Weak(hash) => Self::hash(&[b"weak", kind.as_bytes(), hash]),
        }
    }

    /// The id of the component with this code.
    pub fn component(self, code: &str) -> Self {
        Self::hash(&[b"component", &self.0, code.as_bytes()])
    }

    fn hash(parts: &[&[u8]]) -> Self {
        let digest = digest(parts);
        let mut id = [0; 16];
        id.copy_from_slice(digest.first_chunk::<16>().unwrap_or(&[0; 16]));
        Self(id)
    }
}

/// SHA-256 over parts with their lengths, so that no two lists of parts meet.
pub fn digest(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Logical id of something that was sent to us: `mf-` and base32 over patient and key, so that it
/// finds the row without an index of its own.
pub fn logical_id(patient: PatientId, id: ResultId) -> String {
    let mut bytes = [0; 24];
    let (head, tail) = bytes.split_at_mut(8);
    head.copy_from_slice(&patient.0.to_be_bytes());
    tail.copy_from_slice(&id.0);
    format!("mf-{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
}

/// Patient and key of a logical id of ours; `None` for any other id.
pub fn parse_logical_id(id: &str) -> Option<(PatientId, ResultId)> {
    let text = id.strip_prefix("mf-")?;
    if text.len() != 39 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let encoding: &Encoding = &BASE32_NOPAD;
    let bytes = encoding.decode(text.to_ascii_uppercase().as_bytes()).ok()?;
    let patient = i64::from_be_bytes(*bytes.first_chunk::<8>()?);
    let key = *bytes.last_chunk::<16>()?;
    (bytes.len() == 24 && patient > 0).then_some((PatientId(patient), ResultId(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logical_id_leads_back() {
        let id = ResultId::of(
            "Observation",
            "lab",
            &ResultKey::Url("Observation/1".to_owned()),
        );
        let text = logical_id(PatientId(4711), id);
        assert!(text.len() <= 64, "{text}");
        assert_eq!(parse_logical_id(&text), Some((PatientId(4711), id)));
        for other in [
            "",
            "mf-",
            "mf-xyz",
            "abc",
            &text.to_ascii_uppercase(),
            &text[..40],
        ] {
            assert_eq!(parse_logical_id(other), None, "{other}");
        }
    }

    #[test]
    fn an_address_is_only_as_wide_as_its_client() {
        let url = ResultKey::Url("Observation/1".to_owned());
        assert_ne!(
            ResultId::of("Observation", "lab-a", &url),
            ResultId::of("Observation", "lab-b", &url)
        );
        let identifier = ResultKey::Identifier {
            system: "urn:lab".to_owned(),
            value: "7".to_owned(),
        };
        assert_eq!(
            ResultId::of("Observation", "lab-a", &identifier),
            ResultId::of("Observation", "lab-b", &identifier)
        );
    }
}
