//! The VLANs of bridge ports: `AF_BRIDGE` messages, as bridge(8) sends them.

use libc::ENODEV;
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, LinkAttribute, LinkExtentMask, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use zeugma_model::{IfName, VlanId, VlanRange};
use zeugma_plan::{PortVlanState, PortVlans};

use super::Route;
use super::encode::Request;
use crate::Error;

/// The messages that change a port's VLANs.
pub(super) fn requests(index: u32, vlans: &PortVlans) -> Vec<Request> {
    let mut requests = Vec::new();
    if let Some(id) = vlans.leave {
        let infos = infos(id.into(), BridgeVlanInfoFlags::empty());
        requests.push((RouteNetlinkMessage::DelLink(message(index, infos)), 0));
    }
    let untagged = BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged;
    let tagged = vlans.tagged.iter().flat_map(|range| infos(*range, BridgeVlanInfoFlags::empty()));
    // The kernel goes by the last word on a VLAN.
    let wanted: Vec<_> =
        tagged.chain(vlans.untagged.into_iter().flat_map(|id| infos(id.into(), untagged))).collect();
    if !wanted.is_empty() {
        requests.push((RouteNetlinkMessage::SetLink(message(index, wanted)), 0));
    }
    requests
}

/// Several VLANs are two entries, of their first and their last.
fn infos(range: VlanRange, flags: BridgeVlanInfoFlags) -> Vec<AfSpecBridge> {
    let info = |id: VlanId, flags| AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid: id.get() });
    if range.first() == range.last() {
        return vec![info(range.first(), flags)];
    }
    vec![
        info(range.first(), flags | BridgeVlanInfoFlags::RangeBegin),
        info(range.last(), flags | BridgeVlanInfoFlags::RangeEnd),
    ]
}

fn message(index: u32, infos: Vec<AfSpecBridge>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = index;
    message.attributes.push(LinkAttribute::AfSpecBridge(infos));
    message
}

impl Route {
    /// The VLANs of a port; the kernel tells of all ports at once only.
    pub(crate) fn port_vlans(&mut self, port: &IfName) -> Result<Vec<PortVlanState>, Error> {
        let Some(index) = self.index(port)? else {
            return Ok(Vec::new());
        };
        let all = self.all_port_vlans()?.into_iter();
        Ok(all.filter(|(of, _)| *of == index).map(|(_, state)| state).collect())
    }

    /// The VLANs of all ports, by their indexes.
    pub(crate) fn all_port_vlans(&mut self) -> Result<Vec<(u32, PortVlanState)>, Error> {
        let mut question = LinkMessage::default();
        question.header.interface_family = AddressFamily::Bridge;
        question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::BrvlanCompressed]));
        let action = "list the VLANs of bridge ports";
        match self.ask(action, RouteNetlinkMessage::GetLink(question), NLM_F_DUMP)? {
            Ok(answers) => Ok(answers.into_iter().flat_map(states).collect()),
            Err(refusal) if refusal.errno == ENODEV => Ok(Vec::new()),
            Err(refusal) => Err(Error::Unanswered { action, refusal }),
        }
    }
}

fn states(answer: RouteNetlinkMessage) -> Vec<(u32, PortVlanState)> {
    let RouteNetlinkMessage::NewLink(link) = answer else {
        return Vec::new();
    };
    let port = link.header.index;
    let mut states = Vec::new();
    let mut first = None;
    for attribute in link.attributes {
        let LinkAttribute::AfSpecBridge(infos) = attribute else {
            continue;
        };
        for info in infos {
            let AfSpecBridge::VlanInfo(info) = info else {
                continue;
            };
            let Some(id) = VlanId::new(info.vid.into()) else {
                continue;
            };
            if info.flags.contains(BridgeVlanInfoFlags::RangeBegin) {
                first = Some(id);
                continue;
            }
            let ids = VlanRange::new(first.take().unwrap_or(id), id);
            let is_pvid = info.flags.contains(BridgeVlanInfoFlags::Pvid);
            let is_untagged = info.flags.contains(BridgeVlanInfoFlags::Untagged);
            states.extend(ids.map(|ids| (port, PortVlanState { ids, is_pvid, is_untagged })));
        }
    }
    states
}

pub(super) fn fuzz(message: RouteNetlinkMessage) {
    let _ = states(message);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: i64) -> VlanId {
        VlanId::new(number).unwrap()
    }

    #[test]
    fn what_is_asked_for_reads_back() {
        let range = VlanRange::new(id(100), id(200)).unwrap();
        let vlans =
            PortVlans { leave: Some(id(1)), tagged: vec![id(5).into(), range], untagged: Some(id(10)) };
        let [(RouteNetlinkMessage::DelLink(_), 0), (RouteNetlinkMessage::SetLink(set), 0)] =
            &requests(7, &vlans)[..]
        else {
            panic!("one message to leave, one to join");
        };
        let state = |ids, last| (7, PortVlanState { ids, is_pvid: last, is_untagged: last });
        let expected = [state(id(5).into(), false), state(range, false), state(id(10).into(), true)];
        assert_eq!(states(RouteNetlinkMessage::NewLink(set.clone())), expected);
    }
}
