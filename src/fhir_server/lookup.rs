//! Reading from addresses that a caller names: the FHIR server of a CDS Hooks call, the keys of an
//! issuer. Only what is on a list is asked, and the list is checked three times: the address
//! itself, the addresses its name resolves to, and every further page.
//!
//! Own code because no HTTP client filters the addresses it resolves: the one that was checked has
//! to be the one that is connected to.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{ACCEPT, AUTHORIZATION, HeaderValue},
};
use tokio::time::{Instant, timeout_at};

use super::SetupError;
use crate::fhir::{
    cds::{
        discovery::Key,
        request::{AccessToken, Sent, classify},
    },
    tree,
};

/// Time for one answer.
const ONE: Duration = Duration::from_millis(800);
/// Bytes of one answer.
const MOST: usize = 4 * 1024 * 1024;
/// Pages after the first.
const PAGES: usize = 2;
/// Addresses that hand out the credentials of a machine in a cloud.
const METADATA_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// A base address that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    base: Url,
    internal: bool,
}

impl Allowed {
    /// An address of a list: https, or http on this machine. `internal`: it may resolve to private
    /// addresses.
    pub fn new(base: &str, internal: bool) -> Result<Self, SetupError> {
        let base = plain(base).ok_or(SetupError::Base("is none, or has more than a path"))?;
        let local = is_loopback(&base);
        if base.scheme() != "https" && !local {
            return Err(SetupError::Base("must be https"));
        }
        Ok(Self {
            base,
            internal: internal || local,
        })
    }

    /// The FHIR server that this service itself was configured with.
    pub fn own(base: &Url) -> Option<Self> {
        Some(Self {
            base: plain(base.as_str())?,
            internal: true,
        })
    }

    fn covers(&self, url: &Url) -> bool {
        let base = self.base.path().trim_end_matches('/');
        let path = url.path().trim_end_matches('/');
        url.origin() == self.base.origin()
            && (path == base
                || path
                    .strip_prefix(base)
                    .is_some_and(|rest| rest.starts_with('/')))
    }
}

/// A base address that a caller named and that is on the list.
#[derive(Debug, Clone)]
pub struct Place {
    base: Url,
    internal: bool,
}

/// The place that `given` names, if the list has it.
pub fn permit(allowed: &[Allowed], given: &str) -> Option<Place> {
    let base = plain(given)?;
    let entry = allowed.iter().find(|entry| entry.covers(&base))?;
    Some(Place {
        base,
        internal: entry.internal,
    })
}

/// A base without anything that two parsers could read differently.
fn plain(text: &str) -> Option<Url> {
    let lower = text.to_ascii_lowercase();
    if text.contains(['\\', '#', '?', '@']) || lower.contains("%2e") || text.contains("..") {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?;
    let fine = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && !host.ends_with('.')
        && !host.contains('%');
    fine.then_some(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => literal(host).is_some_and(|ip| ip.is_loopback()),
        None => false,
    }
}

pub(super) fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

/// What was fetched for one key.
#[derive(Debug)]
pub struct Pages {
    /// The key.
    pub key: Key,
    /// Bodies, in order.
    pub bodies: Vec<Vec<u8>>,
    /// Not all of it could be had.
    pub cut: bool,
}

/// What one key needs.
#[derive(Debug, Clone)]
pub enum Need {
    /// All of it.
    Query(Key),
    /// What follows the page that was sent.
    Next(Key, String),
}

/// Clients for lists of both kinds.
#[derive(Debug)]
pub struct Lookup {
    public: reqwest::Client,
    internal: reqwest::Client,
}

impl Lookup {
    /// Makes the clients.
    pub fn new() -> Result<Self, SetupError> {
        let client = |internal| {
            reqwest::Client::builder()
                .user_agent(concat!("marrowflag/", env!("CARGO_PKG_VERSION")))
                // A token must not follow a redirect, nor a proxy of the environment.
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .no_proxy()
                .connect_timeout(ONE)
                .timeout(Duration::from_secs(2))
                .pool_idle_timeout(Duration::from_secs(20))
                .dns_resolver(Arc::new(Filtered { internal }))
                .build()
                .map_err(SetupError::Client)
        };
        Ok(Self {
            public: client(false)?,
            internal: client(true)?,
        })
    }

    /// Fetches everything that is needed, side by side, until `end`.
    pub async fn fetch(
        &self,
        place: &Place,
        token: Option<&AccessToken>,
        patient_id: &str,
        needs: Vec<Need>,
        end: Instant,
    ) -> Vec<Pages> {
        join_all(
            needs
                .into_iter()
                .map(|need| self.key(place, token, patient_id, need, end)),
        )
        .await
    }

    async fn key(
        &self,
        place: &Place,
        token: Option<&AccessToken>,
        patient_id: &str,
        need: Need,
        end: Instant,
    ) -> Pages {
        let (key, mut next) = match need {
            Need::Query(key) => {
                // A bar in a query is no URL; servers differ in whether they mind.
                let query = key.query(patient_id).replace('|', "%7C");
                let base = place.base.as_str().trim_end_matches('/');
                (key, Url::parse(&format!("{base}/{query}")).ok())
            }
            Need::Next(key, url) => (key, place.page(&url)),
        };
        let mut pages = Pages {
            key,
            bodies: Vec::new(),
            cut: next.is_none(),
        };
        while let Some(url) = next.take() {
            let end = end.min(Instant::now() + ONE);
            let body = timeout_at(end, self.get(place.internal, url, token, MOST)).await;
            let Ok(Some(body)) = body else {
                pages.cut = true;
                break;
            };
            let follow = page_after(key, &body, patient_id);
            pages.bodies.push(body);
            if let Some(url) = follow {
                next = place.page(&url).filter(|_| pages.bodies.len() <= PAGES);
                pages.cut = next.is_none();
            }
        }
        pages
    }

    /// Fetches a key set: https, or http on this machine.
    pub async fn key_set(&self, url: &Allowed, most: usize) -> Option<Vec<u8>> {
        let end = Instant::now() + Duration::from_secs(2);
        timeout_at(end, self.get(url.internal, url.base.clone(), None, most))
            .await
            .ok()?
    }

    async fn get(
        &self,
        internal: bool,
        url: Url,
        token: Option<&AccessToken>,
        most: usize,
    ) -> Option<Vec<u8>> {
        // A literal address is not resolved, so it is checked here.
        if let Some(ip) = url.host_str().and_then(literal)
            && !may_connect(ip, internal)
        {
            return None;
        }
        let client = if internal {
            &self.internal
        } else {
            &self.public
        };
        let mut request = client.get(url).header(ACCEPT, "application/fhir+json");
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal())).ok()?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let mut response = request.send().await.ok()?;
        if response.status() != reqwest::StatusCode::OK {
            return None;
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.ok()? {
            if body.len().saturating_add(chunk.len()) > most {
                return None;
            }
            body.extend_from_slice(&chunk);
        }
        Some(body)
    }
}

impl Place {
    /// A further page, if it is at the same place.
    fn page(&self, url: &str) -> Option<Url> {
        if url.contains(['\\', '@']) {
            return None;
        }
        let url = Url::parse(url).or_else(|_| self.base.join(url)).ok()?;
        let within = Allowed {
            base: self.base.clone(),
            internal: self.internal,
        };
        // HAPI and others page below the base itself: `[base]?_getpages=...`.
        (within.covers(&url) && url.username().is_empty()).then_some(url)
    }
}

/// Where the next page is, when the newest results are not all on this one.
fn page_after(key: Key, body: &[u8], patient_id: &str) -> Option<String> {
    let parsed = tree::parse(body, &tree::Limits::default()).ok()?;
    match classify(key, &parsed.root, patient_id) {
        Sent::Here(found) if found.partial => found.next.map(str::to_owned),
        _ => None,
    }
}

/// Resolves a name and keeps only addresses that may be connected to.
#[derive(Debug)]
pub(super) struct Filtered {
    pub(super) internal: bool,
}

impl Resolve for Filtered {
    fn resolve(&self, name: Name) -> Resolving {
        let internal = self.internal;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0))
                .await?
                .filter(|address| may_connect(address.ip(), internal))
                .collect();
            if found.is_empty() {
                return Err("no address that may be connected to".into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

pub(super) fn may_connect(ip: IpAddr, internal: bool) -> bool {
    let ip = ip.to_canonical();
    if ip == METADATA_V4 || ip == METADATA_V6 {
        return false;
    }
    internal || is_public(ip)
}

/// Reachable from anywhere: not this machine, not this network, not a disguise of either.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            !(ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.is_documentation()
                || first == 0
                || first >= 240
                || (first == 100 && (64..128).contains(&second)))
        }
        IpAddr::V6(ip) => {
            let [first, second, ..] = ip.segments();
            if let Some(v4) = ip.to_ipv4() {
                // Mapped and compatible addresses are the IPv4 address they hold.
                return ip.to_ipv4_mapped().is_some() && is_public(IpAddr::V4(v4));
            }
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || (first & 0xfe00) == 0xfc00
                || (first & 0xffc0) == 0xfe80
                // NAT64 and 6to4 lead to IPv4 addresses that nobody checked.
                || (first == 0x64 && second == 0xff9b)
                || first == 0x2002)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_the_list_is_a_place() {
        let list = [Allowed::new("https://ehr.example/fhir", false).unwrap()];
        for good in [
            "https://ehr.example/fhir",
            "https://ehr.example/fhir/",
            "https://EHR.example:443/fhir",
            "https://ehr.example/fhir/tenant-1",
        ] {
            assert!(permit(&list, good).is_some(), "{good}");
        }
        for bad in [
            "http://ehr.example/fhir",
            "https://ehr.example/",
            "https://ehr.example/fhirx",
            "https://ehr.example:8443/fhir",
            "https://ehr.example@evil.example/fhir",
            "https://evil.example/fhir",
            "https://ehr.example.evil.example/fhir",
            "https://ehr.example/fhir/../admin",
            "https://ehr.example/fhir/%2e%2e/admin",
            "https://ehr.example./fhir",
            "https://ehr.example\\@evil.example/fhir",
            "https://ehr.example/fhir#x",
            "https://ehr.example/fhir?x=1",
            "file:///etc/passwd",
            "ehr.example",
        ] {
            assert!(permit(&list, bad).is_none(), "{bad}");
        }
        assert!(Allowed::new("http://ehr.example/fhir", false).is_err());
        assert!(Allowed::new("http://127.0.0.1:9/fhir", false).is_ok());
    }

    #[test]
    fn pages_stay_at_their_place() {
        let list = [Allowed::new("https://ehr.example/fhir", false).unwrap()];
        let place = permit(&list, "https://ehr.example/fhir").unwrap();
        assert!(place.page("https://ehr.example/fhir?_getpages=1").is_some());
        assert!(
            place
                .page("https://ehr.example/fhir/Observation?page=2")
                .is_some()
        );
        assert!(place.page("https://evil.example/fhir?page=2").is_none());
        assert!(place.page("https://ehr.example/admin").is_none());
        assert!(place.page("http://ehr.example/fhir?page=2").is_none());
    }

    #[test]
    fn private_addresses_are_not_public() {
        let public = |text: &str| is_public(text.parse().unwrap());
        for ip in ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(public(ip), "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
        ] {
            assert!(!public(ip), "{ip}");
        }
        assert!(!may_connect("169.254.169.254".parse().unwrap(), true));
        assert!(!may_connect(
            "::ffff:169.254.169.254".parse().unwrap(),
            true
        ));
        assert!(may_connect("10.0.0.1".parse().unwrap(), true));
    }
}
