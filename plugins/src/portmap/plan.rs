//! Published ports as elements. Pure.

use zeugma_journal::Record;
use zeugma_model::{AttachmentId, PortMapping, Protocol};
use zeugma_plan::nft::{Element, SetId, Value};
use zeugma_plan::{Family, FlowFilter, Plan, Side, Step, any_addresses};

use crate::previous::first_of;
use crate::shared;

/// The steps that publish.
pub(super) fn published(id: &AttachmentId, record: &Record) -> Plan {
    let mut plan = Plan::new();
    let elements = elements(id, record);
    if elements.is_empty() {
        return plan;
    }
    if let Some(bridge) = record.bridge.as_ref().filter(|_| record.masquerade && has(record, Family::V4)) {
        plan.push_lasting(Step::SetSysctl(Side::Host, shared::route_localnet(bridge, true)));
    }
    if record.masquerade {
        plan.push_lasting(Step::ShareElements(shared::hairpin(&id.network, &record.addresses)));
    }
    plan.push(Step::CreateElements(elements));
    let flows = stale_flows(record);
    if !flows.is_empty() {
        plan.push_lasting(Step::FlushFlows(flows));
    }
    plan
}

/// The steps that take it back.
pub(super) fn withdrawn(id: &AttachmentId, record: &Record) -> Plan {
    let mut plan = Plan::new();
    let elements = elements(id, record);
    if !elements.is_empty() {
        plan.push(Step::DeleteElements(elements));
        plan.push(Step::FlushFlows(answered_flows(record)));
    }
    plan
}

/// Up to here flows are forgotten port by port.
const FEW_PORTS: usize = 3;

fn has(record: &Record, family: Family) -> bool {
    first_of(&record.addresses, family).is_some()
}

/// All elements of an attachment's ports, by set: one message then holds all of a set.
pub(super) fn elements(id: &AttachmentId, record: &Record) -> Vec<Element> {
    let mut elements: Vec<Element> =
        record.ports.iter().flat_map(|port| port_elements(id, record, port)).collect();
    if record.masquerade_all {
        elements.extend(record.addresses.iter().map(|address| Element {
            set: SetId::MasqueradeAll(Family::of(address.ip())),
            key: vec![Value::Address(address.ip())],
            data: Vec::new(),
            owner: id.owner(),
        }));
    }
    elements.sort();
    elements.dedup();
    elements
}

/// The elements of one port: one per family that the container has.
pub(super) fn port_elements(id: &AttachmentId, record: &Record, port: &PortMapping) -> Vec<Element> {
    let owner = id.owner();
    let element = |(family, host): (Family, Option<std::net::IpAddr>)| {
        let container = first_of(&record.addresses, family)?;
        let rest = [Value::Protocol(port.protocol), Value::Port(port.host_port.get())];
        Some(Element {
            set: if host.is_some() { SetId::Published(family) } else { SetId::PublishedAny(family) },
            key: host.map(Value::Address).into_iter().chain(rest).collect(),
            data: vec![Value::Address(container), Value::Port(port.container_port.get())],
            owner: owner.clone(),
        })
    };
    any_addresses(port.host_address).into_iter().filter_map(element).collect()
}

/// A connectionless flow that began before the port was published would go on to the host.
fn stale_flows(record: &Record) -> Vec<FlowFilter> {
    let connectionless = record.ports.iter().filter(|port| port.protocol != Protocol::Tcp);
    connectionless
        .flat_map(|port| {
            let of_family = |(family, host): (Family, Option<std::net::IpAddr>)| {
                first_of(&record.addresses, family).map(|_| FlowFilter::Untranslated {
                    protocol: port.protocol,
                    port: port.host_port.get(),
                    address: host.unwrap_or(family.unspecified()),
                })
            };
            any_addresses(port.host_address).into_iter().filter_map(of_family)
        })
        .collect()
}

/// Flows that the container answered; the next one to have its address must not get their packets.
///
/// Every filter is a walk through the kernel's table: for many ports one walk takes them all.
fn answered_flows(record: &Record) -> Vec<FlowFilter> {
    if record.ports.len() > FEW_PORTS {
        let addresses = Family::ALL.into_iter().filter_map(|family| first_of(&record.addresses, family));
        return addresses.map(|address| FlowFilter::AnsweredBy { address }).collect();
    }
    let mut flows: Vec<FlowFilter> = Vec::new();
    for port in &record.ports {
        for family in Family::ALL {
            let flow = first_of(&record.addresses, family).map(|address| FlowFilter::Answered {
                protocol: port.protocol,
                port: port.container_port.get(),
                address,
            });
            flows.extend(flow.filter(|flow| !flows.contains(flow)));
        }
    }
    flows
}
