//! Containers' addresses in firewalld's zones: firewalld forgets them when it is reloaded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use zeugma_firewalld::{Error, Firewalld};
use zeugma_upkeep::Desired;

/// What a zone lacks.
pub(super) type Missing = BTreeSet<(String, IpAddr)>;

/// The sources that are missing; none where firewalld does not run: then it keeps nobody out.
pub(super) fn missing(desired: &Desired) -> Result<Missing, Error> {
    if desired.sources.is_empty() {
        return Ok(Missing::new());
    }
    let Some(firewalld) = Firewalld::running() else { return Ok(Missing::new()) };
    let mut there: BTreeMap<&str, BTreeSet<IpAddr>> = BTreeMap::new();
    let mut missing = Missing::new();
    for (zone, address) in &desired.sources {
        if !there.contains_key(zone.as_str()) {
            there.insert(zone, firewalld.sources(zone)?);
        }
        if there.get(zone.as_str()).is_some_and(|sources| !sources.contains(address)) {
            missing.insert((zone.clone(), *address));
        }
    }
    Ok(missing)
}

/// Puts one back.
pub(super) fn put_back(zone: &str, address: IpAddr) -> Result<(), Error> {
    Firewalld::connect()?.add(zone, address)
}

/// As a plan prints it.
pub(super) fn line((zone, address): &(String, IpAddr)) -> String {
    format!("host: firewall-cmd --zone {zone} --add-source {address}")
}
