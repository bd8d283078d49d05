//! Records become what a host must have one after the other: of thousands, no more than one has to be in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use zeugma_journal::{Claim, Phase};
use zeugma_model::{IfName, OverlayState, Protocol};
use zeugma_plan::nft::Element;

use crate::desired::{Attached, Desired};
use crate::elements;

/// The plugins whose records stand for something on the host.
pub const PLUGINS: [&str; 6] = ["bandwidth", "bridge", "firewall", "overlay", "portmap", "ptp"];

/// What the records so far stand for.
#[derive(Debug, Default)]
pub struct Gathered {
    desired: Desired,
    /// Elements of networks: nearly all records of a network name the same.
    shared: BTreeSet<Element>,
    /// Permissions that a policy takes back, and ports that it isolates.
    shut: BTreeSet<Element>,
    isolated: Vec<IfName>,
    /// Who named a port first.
    named: HashMap<(Protocol, u16), u64>,
    contested: BTreeSet<(Protocol, u16)>,
}

impl Gathered {
    /// Takes a record in. Those of calls that are not through stand for nothing yet, but for claims on ports.
    pub fn take(&mut self, one: &Attached) {
        self.note_ports(one);
        if one.record.phase != Phase::Done || one.record.spoilt {
            return;
        }
        self.shared.extend(elements::shared(&one.id.network, &one.record));
        self.desired.add(one);
        if let (Some(bridge), Some("isolated")) = (&one.record.bridge, one.record.ingress.as_deref()) {
            self.shut.insert(elements::permission(&one.id.network, bridge));
            self.isolated.push(one.id.host_veth());
        }
    }

    /// Takes an overlay of this host in: what keeps it apart and sealed is there before its first container, too.
    pub fn overlay(&mut self, state: &OverlayState) {
        self.shared.extend(elements::overlay(state));
        self.desired.overlays.insert(elements::network_owner(&state.network));
    }

    fn note_ports(&mut self, one: &Attached) {
        if one.record.ports.is_empty() {
            return;
        }
        let mut hasher = DefaultHasher::new();
        one.id.hash(&mut hasher);
        let owner = hasher.finish();
        for port in &one.record.ports {
            let key = (port.protocol, port.host_port.get());
            if *self.named.entry(key).or_insert(owner) != owner {
                self.contested.insert(key);
            }
        }
    }

    /// The ports that more than one attachment names: for them the claims tell who has them.
    pub fn contested(&self) -> &BTreeSet<(Protocol, u16)> {
        &self.contested
    }

    /// What all of it together stands for. `claims` are those on contested ports.
    pub fn desired(self, claims: &BTreeMap<(Protocol, u16), Vec<Claim>>) -> Desired {
        let Self { mut desired, shared, shut, isolated, .. } = self;
        desired.shared = shared.into_iter().filter(|element| !shut.contains(element)).collect();
        desired.shared.dedup_by(|one, other| one.set == other.set && one.key == other.key);
        // A policy shuts what an earlier one of the network let in, and isolates the port.
        for port in isolated {
            if let Some(port) = desired.links.get_mut(&port) {
                port.flags.isolated = Some(true);
            }
        }
        desired.owned.sort();
        desired.owned.dedup();
        for (port, claims) in claims.iter().filter(|(_, claims)| !claims.is_empty()) {
            desired.grant(*port, claims);
        }
        desired
    }
}
