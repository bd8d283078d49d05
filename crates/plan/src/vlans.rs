//! The VLANs of bridge ports: as they are to be, as the kernel has them, and what lies between.

use zeugma_model::{VlanId, VlanRange};

/// Changes to the VLANs of a bridge port, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortVlans {
    /// The VLAN that it is taken out of.
    pub leave: Option<VlanId>,
    /// VLANs whose frames keep their tags on it.
    pub tagged: Vec<VlanRange>,
    /// The VLAN of frames without a tag, both ways.
    pub untagged: Option<VlanId>,
}

/// VLANs of a bridge port as the kernel has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortVlanState {
    /// Which.
    pub ids: VlanRange,
    /// Whether frames without a tag belong to it.
    pub is_pvid: bool,
    /// Whether its frames leave without a tag.
    pub is_untagged: bool,
}

impl PortVlans {
    /// What is not as wanted among the VLANs of a port; none when all is.
    pub fn difference(&self, there: &[PortVlanState]) -> Option<String> {
        let ids = VlanRange::merged(there.iter().map(|state| state.ids).collect());
        let has = |id| ids.iter().any(|range| range.contains(id));
        let joins = |wanted: &VlanRange| {
            ids.iter().any(|range| range.contains(wanted.first()) && range.contains(wanted.last()))
        };
        let is_pvid =
            |id| there.iter().any(|state| state.ids.contains(id) && state.is_pvid && state.is_untagged);
        let stays = self.leave.filter(|id| has(*id)).map(|id| format!("is still in VLAN {id}"));
        let lacks =
            self.tagged.iter().find(|range| !joins(range)).map(|range| format!("is not in VLAN {range}"));
        let native = self
            .untagged
            .filter(|id| !is_pvid(*id))
            .map(|id| format!("has not the VLAN {id} for frames without a tag"));
        stays.or(lacks).or(native)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_s_vlans_are_as_wanted_or_the_difference_is_told() {
        let id = |number| VlanId::new(number).unwrap();
        let state = |number, is_pvid| PortVlanState { ids: id(number).into(), is_pvid, is_untagged: is_pvid };
        let wanted = PortVlans {
            leave: Some(id(1)),
            tagged: vec![VlanRange::new(id(5), id(6)).unwrap()],
            untagged: Some(id(10)),
        };
        let there = [state(5, false), state(6, false), state(10, true)];
        assert_eq!(wanted.difference(&there), None);
        assert_eq!(wanted.difference(&there[..1]).unwrap(), "is not in VLAN 5-6");
        assert_eq!(wanted.difference(&there[..2]).unwrap(), "has not the VLAN 10 for frames without a tag");
        let stays: Vec<_> = there.into_iter().chain([state(1, false)]).collect();
        assert_eq!(wanted.difference(&stays).unwrap(), "is still in VLAN 1");
    }
}
