//! What is answered to a question in a view.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::derived::{Below, Held};
use super::network::{Net, Settings};
use super::reverse;
use super::service::Service;
use super::targets::Targets;
use super::{Member, Upstreams, View};
use crate::wire::{Code, Question, above, kind, labels, parent, wire_name};

/// The decision about a question.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// A records.
    V4(&'a [Ipv4Addr]),
    /// AAAA records.
    V6(&'a [Ipv6Addr]),
    /// PTR records: names on the wire with their final zero.
    Names(Vec<Vec<u8>>),
    /// SRV records.
    Targets(Targets<'a>),
    /// The SOA record of the domain that is asked for.
    Soa,
    /// The NS record of the domain that is asked for.
    Ns,
    /// ANY: refused politely (RFC 8482).
    Any,
    /// The name exists and has no such record. The SOA's owner begins there in the question's name.
    NoData(usize),
    /// There is no such name.
    NoName(usize),
    /// Not served.
    Declined(Code),
    /// Not ours: these are to be asked.
    Forward(&'a Upstreams),
}

const INTERNET: u16 = 1;
/// Names that are everywhere the host itself: RFC 6761, 6.3.
pub(super) const LOCALHOST: &[u8] = b"\x09localhost";
/// Names that never leave a host: RFC 6761, 6.4; RFC 7686; RFC 9462, 6.4.
const NOWHERE: [&[u8]; 3] = [b"\x07invalid", b"\x05onion", b"\x08resolver\x04arpa"];

impl<'a> View<'a> {
    /// Decides.
    pub fn answer(&self, question: &Question<'_>) -> Outcome<'a> {
        self.own(question).unwrap_or_else(|| self.outside(question))
    }

    /// Decides what the containers' names decide, and what is asked by nobody; none: a name of the outside.
    pub(crate) fn own(&self, question: &Question<'_>) -> Option<Outcome<'a>> {
        match (question.class, question.kind) {
            (INTERNET, kind::OPT) => Some(Outcome::Declined(Code::FormErr)),
            (INTERNET, kind::AXFR | kind::IXFR) => Some(Outcome::Declined(Code::Refused)),
            (INTERNET, kind::FIRST_META..kind::ANY) => Some(Outcome::Declined(Code::NotImp)),
            (INTERNET, _) => self.named(question),
            _ => Some(Outcome::Declined(Code::Refused)),
        }
    }

    fn named(&self, question: &Question<'_>) -> Option<Outcome<'a>> {
        let name = question.lower.bytes();
        let mut domain = None;
        let held = self.find(|net, settings| {
            let (below, held) = net.look_up(settings, name);
            domain = domain.or(below);
            Some((held?, settings))
        });
        let zone = domain.unwrap_or(name.len());
        match held {
            Some((Held::Entry(entry), _)) => Some(addresses(question.kind, (&entry.v4, &entry.v6), zone)),
            Some((Held::Below(below), settings)) => {
                Some(self.below_service(question.kind, &below, settings, zone))
            }
            None => self.unknown(question, domain),
        }
    }

    /// About a name below a service's. `settings`: of the network where it was found.
    fn below_service(&self, kind: u16, below: &Below<'a>, settings: &Settings, zone: usize) -> Outcome<'a> {
        match below {
            Below::Tasks(v4, v6) => addresses(kind, (v4, v6), zone),
            Below::Port { service, port, tasks } => self.port(kind, (service, port, *tasks), settings, zone),
            Below::Place => addresses(kind, (&[], &[]), zone),
            Below::Missing => Outcome::NoName(zone),
        }
    }

    /// Nobody has the name. `domain`: where in it a network's domain begins.
    fn unknown(&self, question: &Question<'_>, domain: Option<usize>) -> Option<Outcome<'a>> {
        let name = question.lower.bytes();
        match domain {
            Some(0) => Some(apex(question.kind)),
            Some(zone) => Some(Outcome::NoName(zone)),
            None if above(name, LOCALHOST).is_some() => Some(localhost(question.kind, name.len())),
            None => self.reverse(question),
        }
    }

    /// Addresses of our own networks: who does not see the network learns nothing, and nobody else is asked.
    fn reverse(&self, question: &Question<'_>) -> Option<Outcome<'a>> {
        let name = question.lower.bytes();
        let range = reverse::range(name)?;
        let address = is_single(range).then(|| range.ip());
        let virtual_ = address.and_then(|address| self.snapshot.virtuals.get(&address));
        let has_names = |net: &'a Net, settings: &'a Settings| match virtual_ {
            Some(service) => settings.pointer(service),
            None => net.pointers(settings, address?),
        };
        let zone = name.len() - parent(name).map_or(0, <[u8]>::len);
        if let Some(names) = self.find(has_names) {
            return Some(match question.kind {
                kind::PTR => Outcome::Names(names),
                kind::ANY => Outcome::Any,
                _ => Outcome::NoData(zone),
            });
        }
        let is_ours = |net: &Net| net.settings().is_some_and(|settings| settings.covers(range));
        (virtual_.is_some() || self.snapshot.nets().any(is_ours)).then_some(match address {
            Some(_) => Outcome::NoName(zone),
            None => Outcome::NoData(zone),
        })
    }

    /// Decides about a name of the outside.
    pub(crate) fn outside(&self, question: &Question<'_>) -> Outcome<'a> {
        let name = question.lower.bytes();
        let upstreams = self.find(|_, settings| {
            let upstreams = &settings.network.upstreams;
            (!upstreams.internal).then_some(upstreams)
        });
        match upstreams {
            _ if self.has_below(name) => Outcome::NoData(name.len()),
            _ if labels(name).count() == 1 => Outcome::NoName(name.len()),
            _ if NOWHERE.iter().any(|domain| above(name, domain).is_some()) => Outcome::NoName(name.len()),
            None => Outcome::NoName(name.len()),
            Some(_) if question.kind == kind::ANY => Outcome::Any,
            Some(upstreams) => Outcome::Forward(upstreams),
        }
    }

    /// Whether a network in view has its names below this single label: then it exists, with nothing to say.
    fn has_below(&self, name: &[u8]) -> bool {
        let ends_so = |suffix: &Option<Vec<u8>>| suffix.as_ref().is_some_and(|s| above(s, name).is_some());
        labels(name).count() == 1
            && self
                .find(|_, settings| (ends_so(&settings.domain) || ends_so(&settings.suffix)).then_some(()))
                .is_some()
    }
}

impl Net {
    /// Where in the name this network's domain begins, and what it has by the name: below the domain, below the network's
    /// own name, or as it is.
    pub(super) fn look_up(&self, settings: &Settings, name: &[u8]) -> (Option<usize>, Option<Held<'_>>) {
        let below = |suffix: &Option<Vec<u8>>| above(name, suffix.as_ref()?);
        let in_domain = below(&settings.domain);
        let found = in_domain.and_then(|rest| self.held(rest));
        let found = found.or_else(|| self.held(below(&settings.suffix)?)).or_else(|| self.held(name));
        (in_domain.map(<[u8]>::len), found)
    }

    /// The names of who has an address; none when nobody has.
    fn pointers(&self, settings: &Settings, address: IpAddr) -> Option<Vec<Vec<u8>>> {
        let name = |member: &Arc<Member>| {
            let mut names = member.names.iter().chain(&member.aliases);
            settings.below_domain(names.find(|name| !self.is_services(name))?.as_str())
        };
        let members = self.at(address);
        (!members.is_empty()).then(|| members.iter().filter_map(name).collect())
    }
}

impl Settings {
    /// The name of a service of this network.
    fn pointer(&self, service: &Service) -> Option<Vec<Vec<u8>>> {
        let name = || self.below_domain(service.name.as_str());
        service.networks.contains(&self.network.name).then(|| name().into_iter().collect())
    }

    /// A name below the domain, with its final zero.
    fn below_domain(&self, name: &str) -> Option<Vec<u8>> {
        let mut name = wire_name(&format!("{name}.{}", self.network.domain))?;
        name.push(0);
        Some(name)
    }
}

/// What is answered for a name with these addresses.
pub(super) fn addresses<'a>(
    kind: u16,
    (v4, v6): (&'a [Ipv4Addr], &'a [Ipv6Addr]),
    zone: usize,
) -> Outcome<'a> {
    match kind {
        kind::A if !v4.is_empty() => Outcome::V4(v4),
        kind::AAAA if !v6.is_empty() => Outcome::V6(v6),
        kind::ANY => Outcome::Any,
        _ => Outcome::NoData(zone),
    }
}

/// The domain itself.
fn apex<'a>(kind: u16) -> Outcome<'a> {
    match kind {
        kind::SOA => Outcome::Soa,
        kind::NS => Outcome::Ns,
        kind::ANY => Outcome::Any,
        _ => Outcome::NoData(0),
    }
}

fn localhost<'a>(kind: u16, zone: usize) -> Outcome<'a> {
    addresses(kind, (&[Ipv4Addr::LOCALHOST], &[Ipv6Addr::LOCALHOST]), zone)
}

fn is_single(range: ipnetwork::IpNetwork) -> bool {
    range.prefix() == if range.is_ipv4() { 32 } else { 128 }
}
