//! The names below a service's own: `tasks.NAME`, an endpoint's (`10-88-0-2.tasks.NAME`), and those of SRV records
//! (RFC 2782), `_PORT._PROTOCOL.NAME` and `_PORT._PROTOCOL.tasks.NAME`. They are not kept, but found by what they look
//! like, so that many endpoints take no room. All that looks so is the service's and nobody else's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::slice::from_ref;
use std::sync::Arc;

use zeugma_model::Alias;

use super::network::{Entry, Net};
use super::service::{Addresses, NamedPort, Service};
use crate::wire::{parent, wire_name};

const TASKS: &[u8] = b"tasks";
const PROTOCOLS: [&[u8]; 3] = [b"tcp", b"udp", b"sctp"];
/// What the longest name of an endpoint, `ffff-…-ffff.`, takes on the wire.
pub(super) const TASK_LABEL_BYTES: usize = 40;

/// What a network has by a name. Small, for nearly all names are entered.
pub(super) enum Held<'a> {
    /// The name as it is entered.
    Entry(&'a Entry),
    /// It is one below a service's.
    Below(Box<Below<'a>>),
}

/// What a service has by a name below its own.
pub(super) enum Below<'a> {
    /// Addresses of a service's endpoints.
    Tasks(&'a [Ipv4Addr], &'a [Ipv6Addr]),
    /// A service's named port: where it is itself, or where its endpoints are.
    Port { service: &'a Arc<Service>, port: &'a NamedPort, tasks: bool },
    /// Nothing but a place on the way to other names.
    Place,
    /// A service's name that is not there.
    Missing,
}

/// Which name below a service's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'q> {
    Tasks,
    Task {
        label: &'q [u8],
    },
    /// Without a name: the place above all of that protocol.
    Port {
        name: Option<&'q [u8]>,
        protocol: &'q [u8],
        tasks: bool,
    },
}

impl Net {
    /// What there is by a name without domain, in lower case on the wire.
    #[inline]
    pub(super) fn held(&self, name: &[u8]) -> Option<Held<'_>> {
        let entry = self.name(name);
        if self.has_services()
            && let Some(below) = self.derived(name, entry)
        {
            return Some(Held::Below(Box::new(below)));
        }
        entry.map(Held::Entry)
    }

    /// Whether a service has the name, so that no member does.
    pub(super) fn is_services(&self, name: &Alias) -> bool {
        let is_so = |name: Vec<u8>| {
            let entry = self.name(&name);
            entry.is_some_and(|entry| entry.service().is_some()) || self.derived(&name, entry).is_some()
        };
        self.has_services() && wire_name(name.as_str()).is_some_and(is_so)
    }

    /// What a service has by a name below its own. `entry` is what is entered by that name.
    pub(super) fn derived(&self, name: &[u8], entry: Option<&Entry>) -> Option<Below<'_>> {
        if entry.is_some_and(|entry| entry.service().is_some()) {
            return None;
        }
        let of_service = |(part, rest): (Part<'_>, _)| Some(part.of(self.name(rest)?.service()?));
        let below = parts(name).into_iter().flatten().find_map(of_service)?;
        Some(match below {
            Below::Missing if entry.is_some() => Below::Place,
            below => below,
        })
    }
}

/// How a name may be one below a service's, with what would be the service's name.
fn parts(name: &[u8]) -> [Option<(Part<'_>, &[u8])>; 2] {
    let Some((first, rest)) = split(name) else { return [None, None] };
    let below_tasks = |rest| split(rest).filter(|(label, _)| *label == TASKS).map(|(_, rest)| rest);
    let Some(first_name) = first.strip_prefix(b"_") else {
        let tasks = (first == TASKS).then_some((Part::Tasks, rest));
        return [tasks, below_tasks(rest).map(|rest| (Part::Task { label: first }, rest))];
    };
    let second = split(rest).and_then(|(label, rest)| Some((protocol(label)?, rest)));
    let (name, protocol, rest) = match (second, protocol(first)) {
        (Some((protocol, rest)), _) => (Some(first_name), protocol, rest),
        (None, Some(protocol)) => (None, protocol, rest),
        (None, None) => return [None, None],
    };
    let part = |tasks| Part::Port { name, protocol, tasks };
    [Some((part(false), rest)), below_tasks(rest).map(|rest| (part(true), rest))]
}

/// The first label and what is behind it, unless that is nothing.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = parent(name).filter(|rest| !rest.is_empty())?;
    Some((&name[1..name.len() - rest.len()], rest))
}

fn protocol(label: &[u8]) -> Option<&[u8]> {
    label.strip_prefix(b"_").filter(|name| PROTOCOLS.contains(name))
}

impl Part<'_> {
    fn of(self, service: &Arc<Service>) -> Below<'_> {
        let mut ports = service.ports.iter();
        let found = match self {
            Self::Tasks => Some(Below::Tasks(&service.tasks.v4, &service.tasks.v6)),
            Self::Task { label } => address(label).and_then(|address| service.tasks.held(address)),
            Self::Port { name: Some(name), protocol, tasks } => ports
                .find(|port| port.is_of(protocol) && port.name.as_bytes().eq_ignore_ascii_case(name))
                .map(|port| Below::Port { service, port, tasks }),
            Self::Port { name: None, protocol, .. } => {
                ports.any(|port| port.is_of(protocol)).then_some(Below::Place)
            }
        };
        found.unwrap_or(Below::Missing)
    }
}

impl NamedPort {
    fn is_of(&self, protocol: &[u8]) -> bool {
        self.protocol.as_str().as_bytes() == protocol
    }
}

impl Addresses {
    pub(super) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Just this one of them.
    fn held(&self, address: IpAddr) -> Option<Below<'_>> {
        match address {
            IpAddr::V4(address) => {
                let at = self.v4.binary_search(&address).ok()?;
                Some(Below::Tasks(from_ref(&self.v4[at]), &[]))
            }
            IpAddr::V6(address) => {
                let at = self.v6.binary_search(&address).ok()?;
                Some(Below::Tasks(&[], from_ref(&self.v6[at])))
            }
        }
    }
}

/// The label by which an endpoint is known below `tasks`: `10-88-0-2`, `fd00-0-0-0-0-0-0-2`. IPv6 addresses are not
/// shortened: a label must not begin with `-`, nor have `--` where RFC 5890 has it.
pub(super) fn task_label(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string().replace('.', "-"),
        IpAddr::V6(address) => address.segments().map(|group| format!("{group:x}")).join("-"),
    }
}

/// The address that a label is for, when it is written as [`task_label`] does.
fn address(label: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(label).ok()?;
    let address = match text.matches('-').count() {
        3 => text.replace('-', ".").parse().ok()?,
        7 => text.replace('-', ":").parse().ok()?,
        _ => return None,
    };
    (task_label(address) == text).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::labels;

    #[test]
    fn endpoints_are_found_by_their_labels() {
        for text in ["10.88.0.2", "0.0.0.0", "fd00::2", "::", "::ffff:10.0.0.1", "2001:db8:1:2:3:4:5:6"] {
            let expected = text.parse().unwrap();
            let label = task_label(expected);
            assert!(label.len() < TASK_LABEL_BYTES);
            assert_eq!(address(label.as_bytes()), Some(expected), "{label}");
        }
        for label in
            ["10-88-0-02", "10-88-0", "fd00--2", "fd00-0-0-0-0-0-0-02", "a-b-c-d", "256-0-0-0", "---"]
        {
            assert_eq!(address(label.as_bytes()), None, "{label}");
        }
    }

    fn check(name: &str, expected: [Option<(Part<'_>, &str)>; 2]) {
        let name = wire_name(name).unwrap();
        let text = |rest| labels(rest).map(|label| std::str::from_utf8(label).unwrap()).collect::<Vec<_>>();
        let found = parts(&name).map(|found| found.map(|(part, rest)| (part, text(rest).join("."))));
        assert_eq!(found, expected.map(|part| part.map(|(part, rest)| (part, rest.to_owned()))));
    }

    #[test]
    fn names_below_a_services_are_told_by_their_looks() {
        let port = |name: &'static str, tasks| {
            let name = Some(name.as_bytes()).filter(|name| !name.is_empty());
            Part::Port { name, protocol: b"tcp", tasks }
        };
        check("tasks.web", [Some((Part::Tasks, "web")), None]);
        check("1-2-3-4.tasks.web", [None, Some((Part::Task { label: b"1-2-3-4" }, "web"))]);
        check("_http._tcp.web", [Some((port("http", false), "web")), None]);
        let both = [Some((port("http", false), "tasks.web")), Some((port("http", true), "web"))];
        check("_http._tcp.tasks.web", both);
        check("_tcp.web", [Some((port("", false), "web")), None]);
        for other in ["web", "tasks", "web.shop", "_tcp", "_http._tcp", "_http.web", "_http._icmp.web"] {
            check(other, [None, None]);
        }
    }
}
