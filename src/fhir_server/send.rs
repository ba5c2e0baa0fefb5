//! One send: token, capability, patient, what stands there, and the writes.

use reqwest::{Method, Url, header::HeaderValue};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};
use time::{Duration, OffsetDateTime};

use super::{
    Capability, FhirServer, Sent, Strategy,
    answer::{self, Stored, Verdict},
    copy::{self, RemoteIds},
    patient::{self, Key},
    standing::{self, Found, Standing},
    wire::{self, Call, Envelope, Reply},
};
use crate::store::{
    delivery::{Class, First, Outcome},
    lease::{Fate, Item, Leased, Written},
};

/// A patient is looked up by so many identifiers at most.
const IDENTIFIERS: usize = 5;
/// So long a search may not find what was written: some servers index later than they answer.
const SEARCH_LAG: Duration = Duration::seconds(15);

pub(super) async fn send(
    server: &FhirServer,
    leased: &Leased,
    now: OffsetDateTime,
    may_start: &(dyn Fn() -> bool + Sync),
) -> Sent {
    let mut sending = Sending {
        server,
        leased,
        now,
        may_start,
        authorization: None,
        calls: 0,
        last: None,
        settled: Vec::new(),
        remote: remote_ids(leased),
        gone: BTreeSet::new(),
    };
    let outcome = match sending.run().await {
        Ok(()) => Outcome::Delivered,
        Err(outcome) => outcome,
    };
    let last = sending.last.as_ref();
    Sent {
        outcome,
        items: sending.settled,
        http_status: last.map(|reply| reply.status.as_u16()),
        outcome_code: last.and_then(answer::issue_code),
        retry_after: last.and_then(|reply| reply.retry_after),
        reply: last
            .filter(|_| outcome != Outcome::Delivered)
            .map(Reply::excerpt),
    }
}

fn remote_ids(leased: &Leased) -> RemoteIds {
    let known = leased
        .remote_ids
        .iter()
        .map(|known| (&known.kind, &known.id, &known.remote_id));
    let items = leased.items.iter().filter_map(|item| {
        let remote_id = item.remote_id.as_ref()?;
        Some((&item.kind, &item.id, remote_id))
    });
    known
        .chain(items)
        .filter(|(_, id, remote_id)| id != remote_id)
        .map(|(kind, id, remote_id)| (format!("{kind}/{id}"), remote_id.clone()))
        .collect()
}

struct Sending<'a> {
    server: &'a FhirServer,
    leased: &'a Leased,
    now: OffsetDateTime,
    may_start: &'a (dyn Fn() -> bool + Sync),
    authorization: Option<HeaderValue>,
    calls: u32,
    last: Option<Reply>,
    settled: Vec<Written>,
    remote: RemoteIds,
    /// `Type/id` of items that a human deleted there.
    gone: BTreeSet<String>,
}

/// An item on its way.
struct Draft<'a> {
    item: &'a Item,
    strategy: Strategy,
    /// The copy for the target's patient, before ids.
    wanted: Value,
    /// Its id there, where it is known to exist.
    remote_id: Option<String>,
    /// Its version there, for `If-Match`.
    version: Option<String>,
    settled: bool,
}

impl Draft<'_> {
    /// Whether it is read before it is written. A Flag that stands there always is: a human may have
    /// deleted it, and some servers (HAPI) let a PUT with `If-Match` bring it back. Another resource
    /// is when no version of it is known, or when its way of writing needs its id.
    fn is_read_first(&self) -> bool {
        // An earlier revision may have been written by a try whose end nobody knows.
        let known = self.item.written_hash.is_some() || !self.item.unconfirmed.is_empty();
        let searched = self.strategy == Strategy::SearchThenWrite && self.item.identifier.is_some();
        known && (self.item.kind == "Flag" || self.version.is_none())
            || searched && self.remote_id.is_none()
    }

    /// The Device, where it gets an id of the target's own that we do not know yet.
    fn is_unknown_device(&self) -> bool {
        self.item.kind == "Device" && self.id().is_none()
    }

    /// The id it is known by there, if any.
    fn id(&self) -> Option<&str> {
        match self.strategy {
            Strategy::PutId => Some(&self.item.id),
            Strategy::PutQuery | Strategy::CreateIfNone | Strategy::SearchThenWrite => {
                self.remote_id.as_deref()
            }
        }
    }
}

impl Sending<'_> {
    async fn run(&mut self) -> Result<(), Outcome> {
        self.authorization = self.server.token.header(self.now, None).await?;
        let capability = self.capability().await?;
        let leased = self.leased;
        let mut drafts: Vec<_> = leased
            .items
            .iter()
            .filter_map(|item| self.draft(&capability, item).transpose())
            .collect::<Result<_, _>>()?;
        if drafts.is_empty() {
            return Ok(());
        }
        self.deliver_with_device(&capability, &mut drafts).await?;
        self.watch(&capability).await;
        Ok(())
    }

    async fn deliver_with_device(
        &mut self,
        capability: &Capability,
        drafts: &mut [Draft<'_>],
    ) -> Result<(), Outcome> {
        if !drafts.iter().any(Draft::is_unknown_device) {
            return self.deliver(capability, drafts).await;
        }
        // All patients share it: two that create it side by side would make two of it.
        let mut devices = self.server.devices.lock().await;
        for draft in drafts.iter_mut().filter(|draft| draft.is_unknown_device()) {
            draft.remote_id = devices.get(&draft.item.id).cloned();
            if let Some(id) = &draft.remote_id {
                self.note_id(draft.item, id);
            }
        }
        let outcome = self.deliver(capability, drafts).await;
        for draft in drafts.iter().filter(|draft| draft.item.kind == "Device") {
            let ours = format!("Device/{}", draft.item.id);
            if let Some(id) = self.remote.get(&ours) {
                devices.insert(draft.item.id.clone(), id.clone());
            }
        }
        outcome
    }

    /// Looks whether a human changed a Flag that this delivery does not write. What cannot be read
    /// is looked at with the next delivery: this one stands as it is.
    async fn watch(&mut self, capability: &Capability) {
        let leased = self.leased;
        let last = self.last.clone();
        for item in &leased.watched {
            let writable = capability.writable(&item.kind, item.identifier.is_some())
                && self.server.token.writes(&item.kind);
            let known = writable.then(|| self.draft(capability, item));
            let (Some(Ok(Some(draft))), Ok(patient)) = (known, self.patient().await) else {
                continue;
            };
            let mut drafts = [draft];
            if Self::address(&mut drafts, &patient).is_ok() {
                for draft in &mut drafts {
                    // An error is that of a look, not of the delivery.
                    let _ = self.look(draft).await;
                }
            }
            self.settled.retain(|seen| {
                seen.ordinal != item.ordinal
                    || seen.hash.is_none()
                    || seen.hash != item.written_hash
            });
        }
        self.last = last;
    }

    /// Finds the patient and writes; `Ok`: everything is settled.
    async fn deliver(
        &mut self,
        capability: &Capability,
        drafts: &mut [Draft<'_>],
    ) -> Result<(), Outcome> {
        let asked = self.calls;
        let patient = self.patient().await?;
        let remembered = self.calls == asked;
        Self::address(drafts, &patient)?;
        match self.look_and_write(capability, drafts).await {
            // A merged or deleted patient is refused as a wrong reference. The one we remember may
            // be the one.
            Err(refusal @ (Outcome::Rejected | Outcome::Conflict)) if remembered => {
                self.forget_patient();
                let now = self.patient().await?;
                if now == patient {
                    return Err(refusal);
                }
                Self::address(drafts, &now)?;
                self.look_and_write(capability, drafts).await
            }
            other => other,
        }
    }

    /// Makes the copies for the target's patient.
    fn address(drafts: &mut [Draft<'_>], patient: &str) -> Result<(), Outcome> {
        for draft in drafts {
            draft.wanted =
                copy::for_patient(&draft.item.body, patient).ok_or(Outcome::Unforeseen)?;
        }
        Ok(())
    }

    async fn look_and_write(
        &mut self,
        capability: &Capability,
        drafts: &mut [Draft<'_>],
    ) -> Result<(), Outcome> {
        let leased = self.leased;
        let read_first =
            leased.verify_first || matches!(leased.first, First::Verify | First::Reread);
        for draft in drafts.iter_mut().filter(|draft| !draft.settled) {
            if read_first || draft.is_read_first() {
                self.look(draft).await?;
            }
        }
        match self.write(capability, drafts).await {
            Err(Outcome::Conflict) if !read_first => {
                for draft in drafts.iter_mut().filter(|draft| !draft.settled) {
                    self.look(draft).await?;
                }
                self.write(capability, drafts).await
            }
            other => other,
        }
    }

    /// How an item is to be written; `None`: the target does not let us write its type, and it is
    /// settled.
    fn draft<'i>(
        &mut self,
        capability: &Capability,
        item: &'i Item,
    ) -> Result<Option<Draft<'i>>, Outcome> {
        if !capability.writable(&item.kind, item.identifier.is_some())
            || !self.server.token.writes(&item.kind)
        {
            self.settled.push(Written {
                ordinal: item.ordinal,
                remote_id: None,
                etag: None,
                hash: None,
                fate: Fate::NotWritable,
            });
            return Ok(None);
        }
        let strategy = self
            .server
            .strategy(capability, item)
            .ok_or(Outcome::WayRefused { another_way: false })?;
        Ok(Some(Draft {
            item,
            strategy,
            wanted: Value::Null,
            remote_id: item.remote_id.clone(),
            version: item.etag.clone(),
            settled: false,
        }))
    }

    async fn capability(&mut self) -> Result<Arc<Capability>, Outcome> {
        let known = self.server.known_capability(self.now);
        if let Some(known) = known.filter(|_| self.leased.first != First::Capability) {
            return Ok(known);
        }
        let reply = self.call(Call::get(self.server.at(&["metadata"]))).await?;
        let statement = match answer::of(&reply) {
            Verdict::Success => reply.json(),
            Verdict::Unauthorized => return Err(Outcome::Unauthorized),
            Verdict::Ends(outcome) if outcome != Outcome::Rejected => return Err(outcome),
            _ => None,
        };
        let capability = statement
            .as_ref()
            .and_then(Capability::read)
            .map(Arc::new)
            .ok_or(Outcome::NoFhirServer)?;
        self.server.keep_capability(&capability, self.now);
        Ok(capability)
    }

    /// The patient's id there. Every identifier is asked for: two that lead to two patients must
    /// not end in the chart of either.
    async fn patient(&mut self) -> Result<String, Outcome> {
        let leased = self.leased;
        let mut found = BTreeSet::new();
        for identifier in leased.patient_identifiers.iter().take(IDENTIFIERS) {
            found.extend(self.patient_by_identifier(identifier).await?);
        }
        if leased.patient_identifiers.is_empty() {
            let base = self.server.base().to_owned();
            let ids: BTreeSet<_> = leased
                .patient_references
                .iter()
                .filter_map(|reference| patient::local_id(reference, &base))
                .collect();
            for id in ids.into_iter().take(IDENTIFIERS) {
                found.extend(self.patient_by_id(id).await?);
            }
        }
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(id), None) => Ok(id),
            (None, _) => Err(Outcome::PatientUnknown),
            (Some(_), Some(_)) => Err(Outcome::MultipleMatches),
        }
    }

    /// The next look-up asks the target.
    fn forget_patient(&self) {
        let identifiers = self.leased.patient_identifiers.iter().cloned();
        let base = self.server.base();
        let ids = self
            .leased
            .patient_references
            .iter()
            .filter_map(|reference| patient::local_id(reference, base));
        let keys = identifiers
            .map(|(system, value)| Key::Identifier(system, value))
            .chain(ids.map(Key::Id));
        keys.for_each(|key| self.server.patients.forget(&key));
    }

    async fn patient_by_identifier(
        &mut self,
        identifier: &(String, String),
    ) -> Result<Option<String>, Outcome> {
        let key = Key::Identifier(identifier.0.clone(), identifier.1.clone());
        if let Some(id) = self.server.patients.get(&key, self.now) {
            return Ok(Some(id));
        }
        let matches = self
            .search(self.server.search("Patient", identifier), "Patient")
            .await?;
        let ids: BTreeSet<_> = matches
            .iter()
            .filter(|patient| standing::carries(patient, identifier))
            .filter_map(patient::surviving_id)
            .collect();
        let mut ids = ids.into_iter();
        match (ids.next(), ids.next()) {
            (Some(id), None) => {
                self.server.patients.put(key, id.clone(), self.now);
                Ok(Some(id))
            }
            (None, _) => Ok(None),
            (Some(_), Some(_)) => Err(Outcome::MultipleMatches),
        }
    }

    async fn patient_by_id(&mut self, id: String) -> Result<Option<String>, Outcome> {
        let key = Key::Id(id);
        if let Some(id) = self.server.patients.get(&key, self.now) {
            return Ok(Some(id));
        }
        let Key::Id(id) = &key else { return Ok(None) };
        let reply = self
            .call(Call::get(self.server.at(&["Patient", id])))
            .await?;
        match answer::of(&reply) {
            Verdict::Success => {
                let patient = resource(&reply, "Patient")?;
                let id = patient::surviving_id(&patient).ok_or(Outcome::LyingSuccess)?;
                self.server.patients.put(key, id.clone(), self.now);
                Ok(Some(id))
            }
            Verdict::NotFound | Verdict::Gone => Ok(None),
            other => Err(other.outcome()),
        }
    }

    /// The matches of a search, of one type. A server without that type finds nothing.
    async fn search(&mut self, url: Url, kind: &str) -> Result<Vec<Value>, Outcome> {
        let reply = self.call(Call::get(url)).await?;
        match answer::of(&reply) {
            Verdict::Success => {}
            Verdict::NotFound => return Ok(Vec::new()),
            other => return Err(other.outcome()),
        }
        let mut bundle = resource(&reply, "Bundle")?;
        let entries = match bundle.get_mut("entry").map(Value::take) {
            None => Vec::new(),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err(Outcome::LyingSuccess),
        };
        Ok(entries
            .into_iter()
            .filter_map(|mut entry| entry.get_mut("resource").map(Value::take))
            .filter(|resource| answer::resource_type(resource) == Some(kind))
            .collect())
    }

    /// Reads what stands there in the item's place, and settles it when nothing is to be written.
    async fn look(&mut self, draft: &mut Draft<'_>) -> Result<(), Outcome> {
        let item = draft.item;
        let found = match (draft.id(), &item.identifier) {
            (Some(id), _) => {
                let url = self.server.at(&[&item.kind, id]);
                let reply = self.call(Call::get(url)).await?;
                match answer::of(&reply) {
                    Verdict::Success => {
                        let resource = resource(&reply, &item.kind)?;
                        if resource.get("id").and_then(Value::as_str) != Some(id) {
                            return Err(Outcome::LyingSuccess);
                        }
                        Some(Found {
                            id: id.to_owned(),
                            version: self.version(reply.etag, &resource),
                            resource,
                        })
                    }
                    Verdict::NotFound => None,
                    Verdict::Gone => {
                        self.settle(draft, Stored::default(), Fate::HumanDeleted);
                        return Ok(());
                    }
                    other => return Err(other.outcome()),
                }
            }
            (None, Some(identifier)) => {
                let url = self.server.search(&item.kind, identifier);
                let matches = self.search(url, &item.kind).await?;
                let ours = matches
                    .into_iter()
                    .filter(|resource| standing::carries(resource, identifier));
                if item.kind == "Device" {
                    first(ours)
                } else {
                    only(ours)?
                }
            }
            (None, None) => self.look_for_provenance(item).await?,
        };
        if found.is_none() && self.may_be_found_later(draft) {
            return Err(Outcome::AcceptedOnly);
        }
        draft.version = found.as_ref().and_then(|found| found.version.clone());
        draft.remote_id = found.as_ref().map(|found| found.id.clone());
        let Some(found) = found else { return Ok(()) };
        // We forgot what we wrote (a restored copy), or another took over: what is decided after it
        // will be written.
        if self.leased.verify_first && standing::is_newer(&found, item) {
            return Err(Outcome::Conflict);
        }
        match standing::judge(&found, item, &draft.wanted) {
            Standing::Ours => self.settle(draft, found.into(), Fate::Written),
            Standing::Outdated => {
                self.note_id(item, &found.id);
            }
            Standing::Human(fate) => {
                let hash = standing::fingerprint(item, &found.resource);
                self.settle(draft, found.into(), fate);
                if let Some(settled) = self.settled.last_mut() {
                    settled.hash = Some(hash);
                }
            }
        }
        Ok(())
    }

    /// What `If-Match` is to say: the `ETag`, which FHIR makes the version of the resource. Where the
    /// two differ and the last attempt lost a conflict, the other one: something on the way may
    /// make an `ETag` of its own.
    fn version(&self, etag: Option<String>, resource: &Value) -> Option<String> {
        let of_resource = answer::version_of(resource);
        let conflicts = self.leased.earlier.iter();
        let conflicts = conflicts.take_while(|class| **class == Class::Conflict);
        if conflicts.count() % 2 == 1 {
            of_resource.or(etag)
        } else {
            etag.or(of_resource)
        }
    }

    /// Whether the last attempt may have created what a search does not find yet: creating it again
    /// would make a second one. A Provenance is sent last, so that only one that is left alone may
    /// have been sent.
    fn may_be_found_later(&self, draft: &Draft<'_>) -> bool {
        let doubtful = self.leased.first == First::Verify || self.leased.verify_first;
        let was_sent = draft.item.identifier.is_some() || self.leased.items.len() == 1;
        let since = self.now - self.leased.waiting_since;
        let creates = matches!(
            draft.strategy,
            Strategy::CreateIfNone | Strategy::SearchThenWrite
        );
        doubtful
            && was_sent
            && creates
            && draft.id().is_none()
            && (Duration::ZERO..SEARCH_LAG).contains(&since)
    }

    /// A Provenance has no identifier: it is known by what it is about and by its content hash.
    async fn look_for_provenance(&mut self, item: &Item) -> Result<Option<Found>, Outcome> {
        let ours = item.body.pointer("/target/0/reference");
        let Some(ours) = ours.and_then(Value::as_str) else {
            return Ok(None);
        };
        let target = copy::translated(ours, &self.remote).unwrap_or_else(|| ours.to_owned());
        let mut url = self.server.at(&[&item.kind]);
        url.query_pairs_mut().append_pair("target", &target);
        let matches = self.search(url, &item.kind).await?;
        only(
            matches
                .into_iter()
                .filter(|one| standing::content_hash(one) == Some(&item.content_hash)),
        )
    }

    async fn write(
        &mut self,
        capability: &Capability,
        drafts: &mut [Draft<'_>],
    ) -> Result<(), Outcome> {
        self.forget_what_is_gone(drafts);
        let open = || drafts.iter().filter(|draft| !draft.settled);
        let together = capability.transaction()
            && open().count() > 1
            && open().all(|draft| draft.strategy == Strategy::PutId)
            && !self.server.transaction_refused.load(Ordering::Relaxed);
        if together && self.transaction(capability, drafts).await? {
            return Ok(());
        }
        for index in 0..drafts.len() {
            if let Some(draft) = drafts.get_mut(index).filter(|draft| !draft.settled) {
                self.single(capability, draft).await?;
                self.forget_what_is_gone(drafts);
            }
        }
        Ok(())
    }

    /// Nothing points to what a human deleted; a Provenance of nothing else goes with it.
    fn forget_what_is_gone(&mut self, drafts: &mut [Draft<'_>]) {
        if self.gone.is_empty() {
            return;
        }
        for draft in drafts.iter_mut().filter(|draft| !draft.settled) {
            copy::without(&mut draft.wanted, &self.gone);
            if draft.item.kind == "Provenance" && draft.wanted.get("target").is_none() {
                self.settle(draft, Stored::default(), Fate::HumanDeleted);
            }
        }
    }

    /// Everything that is open in one transaction; `false`: the target takes none, or not one so
    /// large.
    async fn transaction(
        &mut self,
        capability: &Capability,
        drafts: &mut [Draft<'_>],
    ) -> Result<bool, Outcome> {
        let base = self.server.base();
        let entries: Vec<_> = drafts
            .iter()
            .filter(|draft| !draft.settled)
            .map(|draft| {
                let place = format!("{}/{}", draft.item.kind, draft.item.id);
                let copy = copy::with_ids(draft.wanted.clone(), Some(&draft.item.id), &self.remote);
                let request = match &draft.version {
                    None => json!({"method": "PUT", "url": place}),
                    Some(version) => json!({"method": "PUT", "url": place, "ifMatch": version}),
                };
                json!({"fullUrl": format!("{base}/{place}"), "resource": copy, "request": request})
            })
            .collect();
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
        let reply = self
            .call(Call {
                prefer: Some("return=minimal"),
                ..Call::write(Method::POST, self.server.at(&[]), &bundle)
            })
            .await?;
        match answer::of(&reply) {
            Verdict::Success => {}
            Verdict::TooLarge => return Ok(false),
            // Of the content, or of an id? One by one it will show.
            Verdict::Ends(Outcome::Rejected)
                if drafts
                    .iter()
                    .any(|draft| !self.server.takes_our_ids(capability, &draft.item.kind)) =>
            {
                return Ok(false);
            }
            Verdict::NotFound | Verdict::NotAllowed | Verdict::NotImplemented => {
                self.server
                    .transaction_refused
                    .store(true, Ordering::Relaxed);
                return Ok(false);
            }
            other => return Err(other.outcome()),
        }
        let sent: Vec<_> = drafts
            .iter()
            .filter(|draft| !draft.settled)
            .map(|draft| (draft.item.kind.as_str(), draft.item.id.as_str()))
            .collect();
        let all = answer::transaction(&reply, &sent)?;
        let open = drafts.iter_mut().filter(|draft| !draft.settled);
        for (draft, stored) in open.zip(all) {
            self.server.note_our_id_taken(&draft.item.kind);
            self.settle(draft, stored, Fate::Written);
        }
        Ok(true)
    }

    async fn single(
        &mut self,
        capability: &Capability,
        draft: &mut Draft<'_>,
    ) -> Result<(), Outcome> {
        let item = draft.item;
        let copy = copy::with_ids(draft.wanted.clone(), draft.id(), &self.remote);
        let call = self.way(draft, &copy);
        let creates = call.if_none_exist.is_some();
        let reply = self.call(call).await?;
        match answer::of(&reply) {
            // Nothing was created, for it is there already: read it.
            Verdict::Success if creates && reply.status.as_u16() == 200 => Err(Outcome::Conflict),
            Verdict::Success => {
                let stored = answer::stored(&reply, &item.kind, draft.id())?;
                if draft.strategy == Strategy::PutId {
                    self.server.note_our_id_taken(&item.kind);
                }
                if stored.id.is_some() {
                    self.settle(draft, stored, Fate::Written);
                    return Ok(());
                }
                // It does not say what it is called: it must be found.
                self.look(draft).await?;
                if draft.settled {
                    Ok(())
                } else {
                    Err(Outcome::LyingSuccess)
                }
            }
            Verdict::Gone => {
                self.settle(draft, Stored::default(), Fate::HumanDeleted);
                Ok(())
            }
            Verdict::Ends(Outcome::Conflict) => self.already_there(draft, &reply),
            // It was there when we last looked.
            Verdict::NotFound if draft.version.is_some() || draft.remote_id.is_some() => {
                draft.version = None;
                draft.remote_id = None;
                Err(Outcome::Conflict)
            }
            Verdict::NotFound | Verdict::NotAllowed => Err(self.refused(capability, draft)),
            Verdict::Ends(Outcome::Rejected)
                if draft.strategy == Strategy::PutId
                    && !self.server.takes_our_ids(capability, &item.kind) =>
            {
                Err(self.refused(capability, draft))
            }
            other => Err(other.outcome()),
        }
    }

    fn refused(&self, capability: &Capability, draft: &Draft<'_>) -> Outcome {
        Outcome::WayRefused {
            another_way: self.server.refuse(capability, draft.item, draft.strategy),
        }
    }

    /// The call that writes an item.
    fn way<'c>(&self, draft: &'c Draft<'_>, copy: &'c Value) -> Call<'c> {
        let item = draft.item;
        let kind = item.kind.as_str();
        if let Some(id) = draft.id() {
            let prefer = match draft.strategy {
                Strategy::PutId => "return=minimal",
                _ => "return=representation",
            };
            return Call {
                if_match: draft.version.as_deref(),
                prefer: Some(prefer),
                ..Call::write(Method::PUT, self.server.at(&[kind, id]), copy)
            };
        }
        let mut call = Call {
            prefer: Some("return=representation"),
            ..Call::write(Method::POST, self.server.at(&[kind]), copy)
        };
        if let Some(identifier) = &item.identifier {
            let search = self.server.search(kind, identifier);
            match draft.strategy {
                Strategy::PutQuery => {
                    call.method = Method::PUT;
                    call.url = search;
                }
                Strategy::CreateIfNone => {
                    call.if_none_exist = search.query().map(str::to_owned);
                }
                Strategy::PutId | Strategy::SearchThenWrite => {}
            }
        }
        call
    }

    /// A conflict whose answer shows our own content: it was stored by an earlier try.
    fn already_there(&mut self, draft: &mut Draft<'_>, reply: &Reply) -> Result<(), Outcome> {
        let resource = resource(reply, &draft.item.kind).map_err(|_| Outcome::Conflict)?;
        let found = found(resource).ok_or(Outcome::Conflict)?;
        if draft.id().is_some_and(|id| id != found.id)
            || standing::judge(&found, draft.item, &draft.wanted) != Standing::Ours
        {
            return Err(Outcome::Conflict);
        }
        self.settle(draft, found.into(), Fate::Written);
        Ok(())
    }

    fn settle(&mut self, draft: &mut Draft<'_>, stored: Stored, fate: Fate) {
        draft.settled = true;
        if fate == Fate::HumanDeleted {
            let item = draft.item;
            self.gone.insert(format!("{}/{}", item.kind, item.id));
        }
        if let Some(id) = &stored.id {
            self.note_id(draft.item, id);
        }
        self.settled.push(Written {
            ordinal: draft.item.ordinal,
            remote_id: stored.id,
            etag: stored.version,
            hash: matches!(fate, Fate::Written)
                .then(|| standing::fingerprint(draft.item, &draft.wanted)),
            fate,
        });
    }

    fn note_id(&mut self, item: &Item, id: &str) {
        if id != item.id {
            self.remote
                .insert(format!("{}/{}", item.kind, item.id), id.to_owned());
        }
    }

    /// One call; a refused token is read again and a refused media type made plainer, once each.
    async fn call(&mut self, call: Call<'_>) -> Result<Reply, Outcome> {
        let mut refreshed = false;
        loop {
            let reply = self.once(call.clone()).await?;
            match answer::of(&reply) {
                Verdict::Unauthorized if !refreshed => {
                    refreshed = true;
                    let refused = self.authorization.as_ref();
                    self.authorization = self.server.token.header(self.now, refused).await?;
                }
                Verdict::Unauthorized => {
                    self.server.token.forget(self.authorization.as_ref()).await;
                    return Ok(reply);
                }
                Verdict::MediaType
                    if !self.server.plain_media_type.swap(true, Ordering::Relaxed) => {}
                _ => return Ok(reply),
            }
        }
    }

    async fn once(&mut self, call: Call<'_>) -> Result<Reply, Outcome> {
        if let Some(pace) = &self.server.pace {
            pace.turn().await;
        }
        if !(self.may_start)() {
            return Err(Outcome::NotTried);
        }
        self.calls = self.calls.saturating_add(1);
        self.last = None;
        let leased = self.leased;
        let request_id = format!(
            "{}-{}-{}-{}",
            leased.delivery, leased.fence, leased.attempt, self.calls
        );
        let envelope = Envelope {
            authorization: self.authorization.as_ref(),
            request_id: &request_id,
            correlation_id: &leased.correlation_id,
            plain_media_type: self.server.plain_media_type.load(Ordering::Relaxed),
        };
        let server = self.server;
        let reply = wire::exchange(&*server.transport, call, &envelope, self.now).await?;
        self.last = Some(reply.clone());
        Ok(reply)
    }
}

impl From<Found> for Stored {
    fn from(found: Found) -> Self {
        Self {
            id: Some(found.id),
            version: found.version,
        }
    }
}

/// The body, if it is a resource of `kind`.
fn resource(reply: &Reply, kind: &str) -> Result<Value, Outcome> {
    reply
        .json()
        .filter(|body| answer::resource_type(body) == Some(kind))
        .ok_or(Outcome::LyingSuccess)
}

fn found(resource: Value) -> Option<Found> {
    Some(Found {
        id: resource.get("id")?.as_str()?.to_owned(),
        version: answer::version_of(&resource),
        resource,
    })
}

/// Always the same of several. Every patient's first delivery brings the Device, and where two of
/// them search before either has written there are two: they say the same, and each will do.
fn first(matches: impl Iterator<Item = Value>) -> Option<Found> {
    matches
        .filter_map(found)
        .filter(|found| patient::is_id(&found.id))
        .min_by(|one, other| one.id.cmp(&other.id))
}

/// The only match, if there is one.
fn only(matches: impl Iterator<Item = Value>) -> Result<Option<Found>, Outcome> {
    let mut matches = matches
        .filter_map(found)
        .filter(|found| patient::is_id(&found.id));
    match (matches.next(), matches.next()) {
        (None, _) => Ok(None),
        (Some(found), None) => Ok(Some(found)),
        (Some(_), Some(_)) => Err(Outcome::MultipleMatches),
    }
}
