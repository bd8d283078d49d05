//! Who has a port of the host: nobody else may, be it a container or a program that listens.

use std::net::{IpAddr, SocketAddr};

use zeugma_journal::{Claim, Claims, Journal, Record};
use zeugma_kernel::listener;
use zeugma_model::{AttachmentId, PortMapping, Protocol};
use zeugma_plan::nft::Element;
use zeugma_plan::{Family, any_addresses, claim_conflicts};

use super::Error;
use super::plan::port_elements;
use crate::previous::first_of;

/// What may be taken.
#[derive(Debug, Default)]
pub(super) struct Granted {
    /// All claims on each port, ours added and dead ones gone.
    ports: Vec<(Protocol, u16, Vec<Claim>)>,
    /// Elements of owners that are gone.
    pub(super) dead: Vec<Element>,
    /// Elements of ours that must wait: another network of the same container has the port.
    pub(super) held: Vec<Element>,
}

/// Podman keeps the published ports of its containers open in this program, on purpose.
const PORT_KEEPER: &str = "conmon";

/// Looks at every port before any is taken.
pub(super) fn granted(claims: &Claims, id: &AttachmentId, record: &Record) -> Result<Granted, Error> {
    let mut granted = Granted::default();
    for port in &record.ports {
        for place in places(record, port) {
            look(claims, id, record, port, place, &mut granted)?;
        }
    }
    Ok(granted)
}

/// The addresses that a port needs: those of families that the container has.
fn places(record: &Record, port: &PortMapping) -> Vec<(Family, Option<IpAddr>)> {
    let mut places = any_addresses(port.host_address);
    places.retain(|(family, _)| first_of(&record.addresses, *family).is_some());
    places
}

fn look(
    claims: &Claims,
    id: &AttachmentId,
    record: &Record,
    port: &PortMapping,
    place: (Family, Option<IpAddr>),
    granted: &mut Granted,
) -> Result<(), Error> {
    let host_port = port.host_port.get();
    let at = granted.ports.iter().position(|(protocol, number, _)| (*protocol, *number) == (port.protocol, host_port));
    let at = match at {
        Some(at) => at,
        None => {
            granted.ports.push((port.protocol, host_port, claims.on(port.protocol, host_port)?));
            granted.ports.len() - 1
        }
    };
    let address = place.1.unwrap_or(place.0.unspecified());
    let mut is_held = false;
    for claim in granted.ports[at].2.clone() {
        if !claim_conflicts(place, place_of(&claim)) || claim.owner == *id {
            continue;
        }
        if claim.is_dead() {
            granted.dead.extend(dead_elements(port, &claim));
            granted.ports[at].2.retain(|other| *other != claim);
        } else if claim.owner.container == id.container {
            is_held = true;
        } else {
            return Err(Error::Published { port: words(port.protocol, address, host_port), owner: claim.owner });
        }
    }
    must_be_free(port.protocol, address, host_port)?;
    if is_held {
        let mine = port_elements(id, record, port);
        granted.held.extend(mine.into_iter().filter(|element| element.set.address_family() == Some(place.0)));
    }
    granted.ports[at].2.push(Claim { address, owner: id.clone(), netns: record.netns.clone() });
    Ok(())
}

fn place_of(claim: &Claim) -> (Family, Option<IpAddr>) {
    let family = Family::of(claim.address);
    (family, Some(claim.address).filter(|address| !address.is_unspecified()))
}

/// The elements of a dead claim: its data does not matter for deleting.
fn dead_elements(port: &PortMapping, claim: &Claim) -> Vec<Element> {
    let host_address = zeugma_model::HostAddress::from_ip(Some(claim.address));
    let anywhere = Record {
        addresses: vec![ipnetwork::IpNetwork::from(claim.address)],
        ..Record::default()
    };
    port_elements(&claim.owner, &anywhere, &PortMapping { host_address, ..*port })
}

fn must_be_free(protocol: Protocol, address: IpAddr, port: u16) -> Result<(), Error> {
    match listener(protocol, SocketAddr::new(address, port)) {
        Some(program) if program.name != PORT_KEEPER => {
            Err(Error::Listening { port: words(protocol, address, port), program: program.to_string() })
        }
        _ => Ok(()),
    }
}

fn words(protocol: Protocol, address: IpAddr, port: u16) -> String {
    format!("{}/{protocol}", SocketAddr::new(address, port))
}

/// Writes down what was granted.
pub(super) fn write(claims: &Claims, granted: &Granted) -> Result<(), Error> {
    for (protocol, port, all) in &granted.ports {
        claims.set(*protocol, *port, all)?;
    }
    Ok(())
}

/// Takes back an attachment's claims.
pub(super) fn release(claims: &Claims, id: &AttachmentId, record: &Record) -> Result<(), zeugma_journal::Error> {
    record.ports.iter().try_for_each(|port| claims.release(port.protocol, port.host_port.get(), id))
}

/// The elements of attachments that waited for the ports of `record`.
pub(super) fn heirs(
    claims: &Claims,
    journal: &Journal,
    record: &Record,
) -> Result<Vec<Element>, zeugma_journal::Error> {
    let mut elements = Vec::new();
    for port in &record.ports {
        for claim in claims.on(port.protocol, port.host_port.get())? {
            let entries = journal.entries(&claim.owner)?;
            for heir in entries.iter().filter(|entry| entry.record.plugin == "portmap") {
                let same = heir.record.ports.iter().filter(|other| {
                    (other.protocol, other.host_port) == (port.protocol, port.host_port)
                });
                elements.extend(same.flat_map(|port| port_elements(&claim.owner, &heir.record, port)));
            }
        }
    }
    elements.sort();
    elements.dedup();
    Ok(elements)
}
