//! A host in memory that steps change.

use zeugma_model::IfName;
use zeugma_plan::nft::{VERSION, make_room};
use zeugma_plan::{LinkKind, Master, Plan, PortFlags, PortVlanState, PortVlans, Step};

use crate::{Desired, LinkSeen, Observed, RulesetSeen, TableSeen};

/// A host with the containers' veths, and nothing else.
pub(super) fn born(desired: &Desired) -> Observed {
    let mut observed = Observed { ruleset: Some(RulesetSeen::default()), ..Observed::default() };
    let ports = desired.links.iter().map(|(name, port)| (name, &port.alias));
    for (name, alias) in ports.chain(desired.routed.iter().map(|(name, routed)| (name, &routed.alias))) {
        let link = LinkSeen { kind: "veth".into(), alias: alias.clone(), up: true, ..LinkSeen::default() };
        observed.links.insert(name.clone(), link);
    }
    observed.sysctls = desired.switches.iter().map(|path| (path.clone(), "0".into())).collect();
    observed
}

pub(super) fn apply(host: &mut Observed, plan: &Plan) {
    plan.steps().for_each(|step| one(host, step));
}

fn link<'a>(host: &'a mut Observed, name: &IfName) -> &'a mut LinkSeen {
    host.links.get_mut(name).unwrap_or_else(|| panic!("there is no link {name}"))
}

fn one(host: &mut Observed, step: &Step) {
    let ruleset = host.ruleset.get_or_insert_default();
    match step {
        Step::MendTable(family, _, elements) => {
            ruleset.tables.insert(*family, TableSeen { version: VERSION, ..TableSeen::default() });
            ruleset.elements.retain(|element| element.set.table() != *family || !elements.contains(element));
            ruleset.elements.extend(elements.clone());
        }
        Step::ShareElements(elements) => {
            let room = make_room(elements, &ruleset.elements);
            ruleset.elements.retain(|element| !room.delete.contains(element));
            ruleset.elements.extend(room.add);
        }
        Step::CreateElements(elements) => {
            let is_taken = |element: &zeugma_plan::nft::Element| {
                ruleset.elements.iter().any(|has| has.set == element.set && has.key == element.key)
            };
            assert!(!elements.iter().any(is_taken));
            ruleset.elements.extend(elements.clone());
        }
        Step::DeleteElements(elements) => ruleset.elements.retain(|element| !elements.contains(element)),
        Step::SetSysctl(_, sysctl) => drop(host.sysctls.insert(sysctl.path.clone(), sysctl.value.clone())),
        Step::AddAddress(_, name, address, _) => link(host, name).addresses.push(*address),
        Step::AddRoute(_, route) => link(host, &route.dev).routes.push(route.dst),
        Step::FlushFlows(_) => {}
        step => of_link(host, step),
    }
}

fn of_link(host: &mut Observed, step: &Step) {
    match step {
        Step::CreateLink(new) => {
            let alias = new.alias.clone().unwrap_or_default();
            let made = LinkSeen { alias, mtu: new.mtu.unwrap_or_default(), ..LinkSeen::default() };
            let (kind, master, filtering) = match &new.kind {
                LinkKind::Bridge { vlan_filtering } => ("bridge", None, *vlan_filtering),
                LinkKind::Uplink { peer, master, .. } => {
                    host.links.insert(peer.clone(), LinkSeen { kind: "veth".into(), ..LinkSeen::default() });
                    ("veth", Some(master.clone()), false)
                }
                _ => ("ifb", None, false),
            };
            let up = kind == "veth";
            let made = LinkSeen { kind: kind.into(), master, vlan_filtering: filtering, up, ..made };
            host.links.insert(new.name.clone(), made);
        }
        Step::SetLink(_, name, change) => {
            if let Some(Master::Link(bridge)) = &change.master {
                assert!(host.links.contains_key(bridge));
                let port = link(host, name);
                (port.master, port.port) = (Some(bridge.clone()), PortFlags::default());
                port.vlans.clear();
            }
            let seen = link(host, name);
            seen.up |= change.up == Some(true);
            seen.promisc |= change.promisc == Some(true);
            seen.vlan_filtering |= change.vlan_filtering == Some(true);
            if let Some(flags) = &change.port {
                assert!(seen.master.is_some());
                seen.port.hairpin = flags.hairpin.or(seen.port.hairpin);
                seen.port.isolated = flags.isolated.or(seen.port.isolated);
            }
        }
        Step::SetPortVlans(name, wanted) => link(host, name).vlans = states(wanted),
        Step::Shape(name, shaper) => link(host, name).limit = Some(shaper.state()),
        Step::Unshape(name) => link(host, name).limit = None,
        Step::Redirect(from, to) => link(host, from).redirected_to = Some(to.clone()),
        Step::EndRedirect(from) => link(host, from).redirected_to = None,
        step => panic!("a repair does not do this: {step}"),
    }
}

fn states(wanted: &PortVlans) -> Vec<PortVlanState> {
    let state = |ids, last| PortVlanState { ids, is_pvid: last, is_untagged: last };
    let tagged = wanted.tagged.iter().map(|range| state(*range, false));
    tagged.chain(wanted.untagged.map(|id| state(id.into(), true))).collect()
}
