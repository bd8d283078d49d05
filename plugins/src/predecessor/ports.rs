//! Ports that the reference's `portmap` publishes: is an attachment's there, and is a port free for a new one.

use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;
use zeugma_kernel::Kernel;
use zeugma_model::{AttachmentId, PortMapping};
use zeugma_plan::{Family, any_addresses, claim_conflicts};
use zeugma_upkeep::first_of;

use super::look;
use super::observe::{Found, Source};
use super::programs::{Failure, Iptables, Variant};
use super::trace::{HOST_PORTS, NFT_PORTS, Part, Trace};
use crate::cause::Cause;

/// Somebody's published port.
#[derive(Debug)]
struct Held {
    protocol: String,
    port: u16,
    /// A family and one of its addresses; none for any.
    place: (Family, Option<IpAddr>),
    container: String,
    /// None where the rule does not say.
    network: Option<String>,
    /// As `10.88.0.2:80`; none where it was not looked at.
    to: Option<String>,
}

fn held(found: &Found) -> Vec<Held> {
    match found {
        Found::Iptables(tool, saved) => saved
            .published(tool.family)
            .into_iter()
            .map(|it| Held {
                protocol: it.protocol.to_owned(),
                port: it.port,
                place: (it.family, it.address),
                container: it.owner.1.to_owned(),
                network: Some(it.owner.0.to_owned()),
                to: Some(it.to.to_owned()),
            })
            .collect(),
        Found::Nft(listing) => {
            let family = match listing.family {
                zeugma_kernel::NftFamily::Ip6 => Family::V6,
                _ => Family::V4,
            };
            let held = |(protocol, port, address, container): (&str, u16, Option<IpAddr>, &str)| Held {
                protocol: protocol.to_owned(),
                port,
                place: (family, address),
                container: container.to_owned(),
                network: None,
                to: None,
            };
            listing.published().into_iter().map(held).collect()
        }
    }
}

/// CHECK: whether the reference publishes all of the ports for the attachment.
pub(crate) fn publishes(
    kernel: &mut Kernel,
    id: &AttachmentId,
    addresses: &[IpNetwork],
    ports: &[PortMapping],
) -> Result<bool, Cause> {
    let trace = Trace::of(id, addresses, &[Part::Ports]);
    let found = look(kernel, std::slice::from_ref(&trace))?;
    let held: Vec<Held> = found.iter().flat_map(held).collect();
    let is_there = |port: &PortMapping, place: (Family, Option<IpAddr>)| {
        let Some(address) = first_of(addresses, place.0) else { return true };
        let to = SocketAddr::new(address, port.container_port.get()).to_string();
        held.iter().any(|it| {
            it.protocol == port.protocol.as_str()
                && it.port == port.host_port.get()
                && it.place == place
                && it.container == id.container.as_str()
                && it.network.as_ref().is_none_or(|network| network == id.network.as_str())
                && it.to.as_ref().is_none_or(|there| *there == to)
        })
    };
    Ok(ports
        .iter()
        .all(|port| any_addresses(port.host_address).into_iter().all(|place| is_there(port, place))))
}

/// ADD: who has one of these ports, and which it is, if a container of the reference's does.
///
/// Costs a question to the kernel for each family; a program runs only where the reference has rules for ports in
/// nf_tables. Tables of iptables-legacy are not looked at: nobody can tell cheaply what is in them.
pub(crate) fn must_be_free(
    kernel: &mut Kernel,
    id: &AttachmentId,
    addresses: &[IpNetwork],
    ports: &[PortMapping],
) -> Result<Option<(String, String)>, Cause> {
    for family in [Family::V4, Family::V6].into_iter().filter(|family| first_of(addresses, *family).is_some())
    {
        for (table, chain) in [("nat", HOST_PORTS), (NFT_PORTS, "hostports")] {
            if kernel.has_rules(family.into(), table, chain)?
                && let Some(taken) = in_the_way(family, table, id, ports)
            {
                return Ok(Some(taken));
            }
        }
    }
    Ok(None)
}

fn in_the_way(
    family: Family,
    table: &'static str,
    id: &AttachmentId,
    ports: &[PortMapping],
) -> Option<(String, String)> {
    let source = match table {
        NFT_PORTS => Source::Nft(family.into(), NFT_PORTS),
        _ => Source::Iptables(Iptables { family, variant: Variant::Nft }, table),
    };
    let found = match source.read() {
        Ok(found) => found,
        Err(failure) => {
            let why = match failure {
                Failure::Missing(program) => format!("{program} is not on PATH"),
                Failure::Said(said) => said,
            };
            eprintln!("zeugma: cannot see which ports the plugins before zeugma publish: {why}");
            return None;
        }
    };
    let others = held(&found).into_iter().filter(|it| it.container != id.container.as_str());
    let mut meetings = others.filter(|it| {
        ports.iter().any(|port| {
            port.protocol.as_str() == it.protocol
                && port.host_port.get() == it.port
                && any_addresses(port.host_address).into_iter().any(|place| claim_conflicts(place, it.place))
        })
    });
    meetings.next().map(|it| {
        let address = it.place.1.unwrap_or(family.unspecified());
        let owner = match &it.network {
            Some(network) => format!("{network}/{}", it.container),
            None => it.container.clone(),
        };
        (format!("{}/{}", SocketAddr::new(address, it.port), it.protocol), owner)
    })
}
