//! Where a packet begins and where it goes, as people say it: `web`, `10.88.0.2:80`, `host`, `[2001:db8::1]:53/udp`.

use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use zeugma_model::Protocol;

use super::state::State;
use crate::host::Attached;

/// The word for this host.
const HOST: &str = "host";

/// What a packet is to be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(super) whom: String,
    /// None: an echo request.
    pub(super) port: Option<(Protocol, u16)>,
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (rest, protocol) = match text.rsplit_once('/') {
            Some((rest, protocol)) => (rest, protocol.parse()?),
            None => (text, Protocol::Tcp),
        };
        let is_bare = rest.parse::<IpAddr>().is_ok();
        let (whom, port) = match rest.rsplit_once(':').filter(|_| !is_bare) {
            Some((whom, port)) => {
                let port: u16 = port.parse().with_context(|| format!("{port:?} is no port"))?;
                ensure!(port > 0, "0 is no port");
                (whom, Some((protocol, port)))
            }
            None => (rest, None),
        };
        ensure!(port.is_some() || !text.contains('/'), "a protocol is for a port: {rest}:PORT/{protocol}");
        Ok(Self { whom: whom.trim_matches(['[', ']']).to_owned(), port })
    }
}

/// Somebody who sends or gets packets.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// A container of this host; it may have more than one attachment.
    Container(&'a Attached),
    /// This host; with an address of its own where one was named.
    Host(Option<IpAddr>),
    /// A virtual address.
    Service(IpAddr),
    /// Anything else.
    Elsewhere(IpAddr),
}

/// Who is meant by a word.
///
/// # Errors
/// When it is nobody, or more than one.
pub(super) fn found<'a>(state: &'a State, word: &str) -> Result<Place<'a>> {
    if word == HOST {
        return Ok(Place::Host(None));
    }
    if let Ok(address) = word.parse::<IpAddr>() {
        return Ok(at(state, address));
    }
    let is_it = |one: &&Attached| {
        one.id.container.as_str() == word || one.names.iter().any(|name| name.eq_ignore_ascii_case(word))
    };
    let begins = |one: &&Attached| word.len() >= 4 && one.id.container.as_str().starts_with(word);
    let all = || state.attached.iter();
    let exact: Vec<&Attached> = all().filter(is_it).collect();
    let meant = if exact.is_empty() { all().filter(begins).collect() } else { exact };
    let Some(first) = meant.first() else {
        let service = state.vip_of(word);
        return service.map(Place::Service).with_context(|| {
            format!("{word:?} is no container or service of this host, no address and not `host`: zeugma ps lists containers")
        });
    };
    if let Some(other) = meant.iter().find(|one| one.id.container != first.id.container) {
        bail!(
            "{word:?} may be container {} or {}: give more of the ID",
            first.id.container,
            other.id.container
        );
    }
    Ok(Place::Container(first))
}

/// Who has an address.
pub(super) fn at(state: &State, address: IpAddr) -> Place<'_> {
    let has = |one: &&Attached| one.is_alive && one.addresses.iter().any(|has| has.ip() == address);
    if let Some(one) = state.attached.iter().find(has) {
        return Place::Container(one);
    }
    if state.is_own(address) {
        return Place::Host(Some(address));
    }
    match state.is_virtual(address) {
        true => Place::Service(address),
        false => Place::Elsewhere(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, whom: &str, port: Option<(Protocol, u16)>) {
        assert_eq!(text.parse::<Target>().unwrap(), Target { whom: whom.into(), port }, "{text}");
    }

    #[test]
    fn targets_are_read_as_people_write_them() {
        check("web", "web", None);
        check("web:80", "web", Some((Protocol::Tcp, 80)));
        check("10.88.0.2:53/udp", "10.88.0.2", Some((Protocol::Udp, 53)));
        check("2001:db8::1", "2001:db8::1", None);
        check("[2001:db8::1]:443", "2001:db8::1", Some((Protocol::Tcp, 443)));
        for wrong in ["web:0", "web:x", "web/udp", "web:80/icmp"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
