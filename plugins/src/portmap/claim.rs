//! Who has a port of the host: nobody else may, be it a container or a program that listens.

use std::net::{IpAddr, SocketAddr};

use zeugma_journal::{Claim, Claims, Journal, Record};
use zeugma_kernel::listener;
use zeugma_model::{AttachmentId, PortMapping, Protocol};
use zeugma_plan::nft::Element;
use zeugma_plan::{Family, any_addresses, claim_conflicts};
use zeugma_upkeep::{first_of, published_port};

use super::Error;

/// What may be taken.
#[derive(Debug, Default)]
pub(super) struct Granted {
    /// All claims on each port, ours added and dead ones gone.
    ports: Vec<(Protocol, u16, Vec<Claim>)>,
    /// The claims as they were.
    before: Vec<(Protocol, u16, Vec<Claim>)>,
    /// Elements of owners that are gone.
    pub(super) dead: Vec<Element>,
    /// Elements of ours that must wait: another network of the same container has the port.
    pub(super) held: Vec<Element>,
}

/// Podman keeps the published ports of its containers open in this program, on purpose.
const PORT_KEEPER: &str = "conmon";

/// Looks at every port before any is taken.
pub(super) fn granted(claims: &Claims, id: &AttachmentId, record: &Record) -> Result<Granted, Error> {
    let asking = Asking { claims, id, record };
    let mut granted = Granted::default();
    for port in &record.ports {
        for place in places(record, port) {
            asking.for_port(port, place, &mut granted)?;
        }
    }
    Ok(granted)
}

/// The addresses that a port needs: those of families that the container has.
fn places(record: &Record, port: &PortMapping) -> Vec<Place> {
    let mut places = any_addresses(port.host_address);
    places.retain(|(family, _)| first_of(&record.addresses, *family).is_some());
    places
}

/// A family and one of its addresses; none for any.
type Place = (Family, Option<IpAddr>);

impl Granted {
    /// The claims on a port, read when it is first asked for.
    fn on(&mut self, claims: &Claims, port: &PortMapping) -> Result<&mut Vec<Claim>, Error> {
        let key = (port.protocol, port.host_port.get());
        let at = self.ports.iter().position(|(protocol, number, _)| (*protocol, *number) == key);
        let at = match at {
            Some(at) => at,
            None => {
                self.ports.push((key.0, key.1, claims.on(key.0, key.1)?));
                self.before.extend(self.ports.last().cloned());
                self.ports.len() - 1
            }
        };
        Ok(&mut self.ports[at].2)
    }
}

/// Who asks for ports.
struct Asking<'a> {
    claims: &'a Claims,
    id: &'a AttachmentId,
    record: &'a Record,
}

impl Asking<'_> {
    fn for_port(&self, port: &PortMapping, place: Place, granted: &mut Granted) -> Result<(), Error> {
        let address = place.1.unwrap_or(place.0.unspecified());
        let in_words = || words(port.protocol, address, port.host_port.get());
        let others = granted.on(self.claims, port)?.clone();
        let mut in_the_way =
            others.iter().filter(|claim| claim.owner != *self.id && claim_conflicts(place, place_of(claim)));
        let (dead, alive): (Vec<&Claim>, Vec<&Claim>) =
            in_the_way.by_ref().partition(|claim| claim.is_dead());
        if let Some(claim) = alive.iter().find(|claim| claim.owner.container != self.id.container) {
            return Err(Error::Published { port: in_words(), owner: claim.owner.clone() });
        }
        must_be_free(port.protocol, address, port.host_port.get())?;
        granted.dead.extend(dead.iter().flat_map(|claim| dead_elements(port, claim)));
        if !alive.is_empty() {
            let mine = published_port(self.id, self.record, port);
            granted
                .held
                .extend(mine.into_iter().filter(|element| element.set.address_family() == Some(place.0)));
        }
        let claims = granted.on(self.claims, port)?;
        claims.retain(|claim| !dead.contains(&claim));
        claims.push(Claim { address, owner: self.id.clone(), netns: self.record.netns.clone() });
        Ok(())
    }
}

fn place_of(claim: &Claim) -> Place {
    let family = Family::of(claim.address);
    (family, Some(claim.address).filter(|address| !address.is_unspecified()))
}

/// The elements of a dead claim: its data does not matter for deleting.
fn dead_elements(port: &PortMapping, claim: &Claim) -> Vec<Element> {
    let host_address = zeugma_model::HostAddress::from_ip(Some(claim.address));
    let anywhere = Record { addresses: vec![ipnetwork::IpNetwork::from(claim.address)], ..Record::default() };
    published_port(&claim.owner, &anywhere, &PortMapping { host_address, ..*port })
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

/// Writes down the claims as they were before.
pub(super) fn restore(claims: &Claims, granted: &Granted) -> Result<(), Error> {
    for (protocol, port, all) in &granted.before {
        claims.set(*protocol, *port, all)?;
    }
    Ok(())
}

/// Takes back an attachment's claims.
pub(super) fn release(
    claims: &Claims,
    id: &AttachmentId,
    record: &Record,
) -> Result<(), zeugma_journal::Error> {
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
                let same = heir
                    .record
                    .ports
                    .iter()
                    .filter(|other| (other.protocol, other.host_port) == (port.protocol, port.host_port));
                elements.extend(same.flat_map(|port| published_port(&claim.owner, &heir.record, port)));
            }
        }
    }
    elements.sort();
    elements.dedup();
    Ok(elements)
}
