//! SMART scopes: what we ask for, and what was granted.

/// Version of the scopes' syntax that an authorization server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    /// `system/Flag.read`, `system/Flag.write`.
    V1,
    /// `system/Flag.crus`.
    V2,
}

/// The scopes of a writer. `all` adds what findings can do without: where they come from.
///
/// Reading (`r`) is asked for besides searching because a Flag that stands there is read by its id
/// before it is written, and updating (`u`) because a resource is created under our id.
pub(super) fn wanted(syntax: Syntax, observations: bool, all: bool) -> String {
    let mut kinds = vec!["Flag", "DiagnosticReport"];
    if all {
        kinds.extend(["Device", "Provenance"]);
        if observations {
            kinds.push("Observation");
        }
    }
    let mut scopes: Vec<_> = kinds
        .into_iter()
        .map(|kind| match syntax {
            Syntax::V1 => format!("system/{kind}.read system/{kind}.write"),
            Syntax::V2 => format!("system/{kind}.crus"),
        })
        .collect();
    scopes.push(match syntax {
        Syntax::V1 => "system/Patient.read".to_owned(),
        Syntax::V2 => "system/Patient.rs".to_owned(),
    });
    scopes.join(" ")
}

/// What a token lets us write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Granted(Vec<String>);

impl Granted {
    /// Types with `c`, `u`, `.write` or `.*`. `None`: no scope of a system is among them, and the
    /// FHIR server itself has to say what it does not let us do.
    pub(super) fn read(scopes: &str) -> Option<Self> {
        let mut any = false;
        let mut kinds = Vec::new();
        for scope in scopes.split_ascii_whitespace() {
            let Some((kind, rights)) = scope
                .strip_prefix("system/")
                .and_then(|scope| scope.split_once('.'))
            else {
                continue;
            };
            any = true;
            let rights = rights.split('?').next().unwrap_or_default();
            let writes =
                matches!(rights, "write" | "*") || rights != "read" && rights.contains(['c', 'u']);
            if writes {
                kinds.push(kind.to_owned());
            }
        }
        any.then_some(Self(kinds))
    }

    pub(super) fn writes(&self, kind: &str) -> bool {
        self.0
            .iter()
            .any(|granted| granted == kind || granted == "*")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_asked_for_in_both_syntaxes() {
        assert_eq!(
            wanted(Syntax::V2, true, true),
            "system/Flag.crus system/DiagnosticReport.crus system/Device.crus \
             system/Provenance.crus system/Observation.crus system/Patient.rs"
        );
        assert_eq!(
            wanted(Syntax::V1, false, false),
            "system/Flag.read system/Flag.write system/DiagnosticReport.read \
             system/DiagnosticReport.write system/Patient.read"
        );
    }

    #[test]
    fn what_was_granted_is_read_in_both_syntaxes() {
        let writes = |scopes: &str, kind| Granted::read(scopes).map(|granted| granted.writes(kind));
        assert_eq!(writes("system/Flag.cus", "Flag"), Some(true));
        assert_eq!(writes("system/Flag.c?category=lab", "Flag"), Some(true));
        assert_eq!(writes("system/Flag.rs", "Flag"), Some(false));
        assert_eq!(writes("system/Flag.read", "Flag"), Some(false));
        assert_eq!(writes("system/*.write", "Flag"), Some(true));
        assert_eq!(writes("system/*.*", "Device"), Some(true));
        assert_eq!(writes("system/Flag.crus", "Device"), Some(false));
        assert_eq!(writes("", "Flag"), None, "nothing is said");
        assert_eq!(writes("openid fhirUser", "Flag"), None);
    }
}
