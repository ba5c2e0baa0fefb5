//! What a target says it can do, and the way of writing that follows.

use std::collections::BTreeMap;

use serde_json::Value;

/// A way of writing one resource type, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Strategy {
    /// S1: `PUT Type/{our id}`; creates when absent. Safe against races. Taken too where
    /// `updateCreate` is not said at all: HAPI takes our ids and does not say so.
    PutId,
    /// S2: `PUT Type?identifier=system|value`.
    PutQuery,
    /// S3: `POST Type` with `If-None-Exist`, then `PUT Type/{found id}`.
    CreateIfNone,
    /// S4: search, then `POST` or `PUT Type/{found id}`.
    SearchThenWrite,
}

impl Strategy {
    const ALL: [Self; 4] = [
        Self::PutId,
        Self::PutQuery,
        Self::CreateIfNone,
        Self::SearchThenWrite,
    ];
}

/// What one type offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are the flags of CapabilityStatement.rest.resource"
)]
struct Ability {
    create: bool,
    update: bool,
    search: bool,
    update_create: Option<bool>,
    conditional_update: bool,
    conditional_create: bool,
}

impl Ability {
    /// `identified`: the resource carries a business identifier that a search can find.
    fn allows(self, strategy: Strategy, identified: bool) -> bool {
        match strategy {
            Strategy::PutId => self.update && self.update_create.unwrap_or(self.create),
            Strategy::PutQuery => identified && self.update && self.conditional_update,
            Strategy::CreateIfNone => identified && self.create && self.conditional_create,
            Strategy::SearchThenWrite => self.create && (self.search || !identified),
        }
    }
}

/// A CapabilityStatement, as far as writing needs it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capability {
    transaction: bool,
    types: BTreeMap<String, Ability>,
}

impl Capability {
    /// Reads the server side of a CapabilityStatement of release 4. `None`: it is something else.
    pub fn read(statement: &Value) -> Option<Self> {
        if statement.get("resourceType")?.as_str()? != "CapabilityStatement"
            || !statement.get("fhirVersion")?.as_str()?.starts_with("4.")
        {
            return None;
        }
        let mut capability = Self::default();
        let servers = items(statement, "rest")
            .iter()
            .filter(|rest| rest.get("mode").and_then(Value::as_str) == Some("server"));
        for rest in servers {
            capability.transaction |= interactions(rest).any(|code| code == "transaction");
            for resource in items(rest, "resource") {
                if let Some(kind) = resource.get("type").and_then(Value::as_str) {
                    capability.types.insert(kind.to_owned(), ability(resource));
                }
            }
        }
        Some(capability)
    }

    /// Whether it takes transaction Bundles.
    pub fn transaction(&self) -> bool {
        self.transaction
    }

    /// The best way of writing `kind` that is not among those `refused`; `None`: it is not
    /// writable. A Provenance is not `identified`: it has no identifier to be found by.
    pub fn strategy(&self, kind: &str, identified: bool, refused: &[Strategy]) -> Option<Strategy> {
        let ability = self.types.get(kind)?;
        Strategy::ALL
            .into_iter()
            .find(|strategy| ability.allows(*strategy, identified) && !refused.contains(strategy))
    }

    /// Whether it says in so many words that it takes our ids for `kind`.
    pub fn promises_put_id(&self, kind: &str) -> bool {
        let ability = self.types.get(kind);
        ability.is_some_and(|ability| ability.update_create == Some(true))
    }

    /// Whether it promises any way of writing `kind`.
    pub fn writable(&self, kind: &str, identified: bool) -> bool {
        self.strategy(kind, identified, &[]).is_some()
    }
}

fn ability(resource: &Value) -> Ability {
    let flag = |name| resource.get(name).and_then(Value::as_bool) == Some(true);
    let mut ability = Ability {
        update_create: resource.get("updateCreate").and_then(Value::as_bool),
        conditional_update: flag("conditionalUpdate"),
        conditional_create: flag("conditionalCreate"),
        ..Ability::default()
    };
    for code in interactions(resource) {
        match code {
            "create" => ability.create = true,
            "update" => ability.update = true,
            "search-type" => ability.search = true,
            _ => {}
        }
    }
    ability
}

fn interactions(of: &Value) -> impl Iterator<Item = &str> {
    items(of, "interaction")
        .iter()
        .filter_map(|one| one.get("code").and_then(Value::as_str))
}

fn items<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of.get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn statement(resources: &Value) -> Value {
        json!({
            "resourceType": "CapabilityStatement", "fhirVersion": "4.0.1",
            "rest": [
                {"mode": "client", "resource": [{"type": "Flag", "updateCreate": true, "interaction": [{"code": "update"}]}]},
                {"mode": "server", "interaction": [{"code": "batch"}], "resource": resources}
            ]
        })
    }

    /// Flag with these flags, the others false, and these interactions.
    fn of(flags: &[&str], interactions: &[&str]) -> Capability {
        let interaction: Vec<_> = interactions
            .iter()
            .map(|code| json!({"code": code}))
            .collect();
        let mut resource =
            json!({"type": "Flag", "interaction": interaction, "updateCreate": false});
        for flag in flags {
            resource[*flag] = json!(true);
        }
        Capability::read(&statement(&json!([resource]))).unwrap()
    }

    #[test]
    fn the_best_way_is_taken_and_the_next_when_it_is_refused() {
        let all = of(
            &["updateCreate", "conditionalUpdate", "conditionalCreate"],
            &["create", "update", "search-type"],
        );
        let mut refused = vec![];
        for strategy in Strategy::ALL {
            assert_eq!(all.strategy("Flag", true, &refused), Some(strategy));
            refused.push(strategy);
        }
        assert_eq!(all.strategy("Flag", true, &refused), None);
        assert!(all.writable("Flag", true), "promised all the same");
    }

    #[test]
    fn a_flag_without_its_interaction_promises_nothing() {
        assert!(!of(&["updateCreate", "conditionalUpdate"], &["read"]).writable("Flag", true));
        assert!(!of(&["conditionalCreate"], &["update"]).writable("Flag", true));
    }

    /// HAPI says nothing of `updateCreate`; Epic, which updates reports that others created, neither.
    #[test]
    fn where_nothing_is_said_of_our_ids_they_are_tried_if_it_creates() {
        let silent = |codes: &[&str]| {
            let interaction: Vec<_> = codes.iter().map(|code| json!({"code": code})).collect();
            let resource = json!([{"type": "Flag", "interaction": interaction}]);
            Capability::read(&statement(&resource)).unwrap()
        };
        let hapi = silent(&["create", "update", "search-type"]);
        assert_eq!(hapi.strategy("Flag", true, &[]), Some(Strategy::PutId));
        assert!(!hapi.promises_put_id("Flag"));
        assert!(!silent(&["update", "search-type"]).writable("Flag", true));
    }

    #[test]
    fn what_no_search_can_find_is_put_by_id_or_created_once() {
        let conditional = of(
            &["conditionalUpdate", "conditionalCreate"],
            &["create", "update"],
        );
        let way = conditional.strategy("Flag", false, &[]);
        assert_eq!(way, Some(Strategy::SearchThenWrite));
    }

    /// Epic: Flag is read and search only. Oracle Health: there is no Flag.
    #[test]
    fn what_cannot_be_written_is_known() {
        let epic = of(&[], &["read", "search-type"]);
        assert!(!epic.writable("Flag", true));
        assert!(!epic.writable("Provenance", false));
        assert!(!epic.transaction(), "batch is not transaction");
    }

    #[test]
    fn only_release_4_counts() {
        for (kind, version) in [("CapabilityStatement", "5.0.0"), ("Conformance", "4.0.1")] {
            let statement = json!({"resourceType": kind, "fhirVersion": version});
            assert_eq!(Capability::read(&statement), None);
        }
    }
}
