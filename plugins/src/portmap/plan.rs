//! When elements of published ports come and go; which they are: `upkeep`. Pure.

use zeugma_journal::Record;
use zeugma_model::AttachmentId;
use zeugma_plan::{Family, FlowFilter, Plan, Side, Step};
use zeugma_upkeep::{first_of, hairpin, published as elements, route_localnet, stale_flows};

/// The steps that publish.
pub(super) fn published(id: &AttachmentId, record: &Record) -> Plan {
    let mut plan = Plan::new();
    let elements = elements(id, record);
    if elements.is_empty() {
        return plan;
    }
    if let Some(bridge) = record.bridge.as_ref().filter(|_| record.masquerade && has(record, Family::V4)) {
        plan.push_lasting(Step::SetSysctl(Side::Host, route_localnet(bridge, true)));
    }
    if record.masquerade {
        plan.push_lasting(Step::ShareElements(hairpin(&id.network, &record.addresses)));
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
