//! IEEE 802.1Q VLAN identifiers.

use std::fmt;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

/// A VLAN's number, 1 to 4094: 0 stands for frames without a VLAN, 4095 is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct VlanId(NonZeroU16);

impl VlanId {
    /// The VLAN that a bridge puts its ports into when nobody says otherwise.
    pub const DEFAULT: Self = Self(NonZeroU16::MIN);

    /// None outside of 1 to 4094.
    pub fn new(number: i64) -> Option<Self> {
        let number = u16::try_from(number).ok().filter(|number| *number < 4095)?;
        NonZeroU16::new(number).map(Self)
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl TryFrom<u16> for VlanId {
    type Error = &'static str;
    fn try_from(number: u16) -> Result<Self, Self::Error> {
        Self::new(number.into()).ok_or("a VLAN is 1 to 4094")
    }
}

impl From<VlanId> for u16 {
    fn from(id: VlanId) -> Self {
        id.get()
    }
}

/// VLANs in a row: `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(VlanId, VlanId)", into = "(VlanId, VlanId)")]
pub struct VlanRange {
    first: VlanId,
    last: VlanId,
}

impl VlanRange {
    /// None when `last` comes before `first`.
    pub fn new(first: VlanId, last: VlanId) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The first VLAN.
    pub fn first(self) -> VlanId {
        self.first
    }

    /// The last VLAN.
    pub fn last(self) -> VlanId {
        self.last
    }

    /// Whether a VLAN is in it.
    pub fn contains(self, id: VlanId) -> bool {
        (self.first..=self.last).contains(&id)
    }

    /// The same VLANs in as few ranges as possible, in order.
    pub fn merged(mut ranges: Vec<Self>) -> Vec<Self> {
        ranges.sort_unstable();
        let mut merged: Vec<Self> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(before) if range.first.get() <= before.last.get() + 1 => {
                    before.last = before.last.max(range.last)
                }
                _ => merged.push(range),
            }
        }
        merged
    }
}

impl TryFrom<(VlanId, VlanId)> for VlanRange {
    type Error = &'static str;
    fn try_from((first, last): (VlanId, VlanId)) -> Result<Self, Self::Error> {
        Self::new(first, last).ok_or("the last VLAN comes before the first")
    }
}

impl From<VlanRange> for (VlanId, VlanId) {
    fn from(range: VlanRange) -> Self {
        (range.first, range.last)
    }
}

impl From<VlanId> for VlanRange {
    fn from(id: VlanId) -> Self {
        Self { first: id, last: id }
    }
}

/// `10` or `10-20`, as bridge(8) writes it.
impl fmt::Display for VlanRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(formatter)
        } else {
            write!(formatter, "{}-{}", self.first, self.last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_of_the_standard_are_none() {
        for bad in [-1, 0, 4095, 4096, 65_537] {
            assert_eq!(VlanId::new(bad), None, "{bad}");
        }
        assert_eq!((VlanId::new(1), VlanId::new(4094).map(VlanId::get)), (Some(VlanId::DEFAULT), Some(4094)));
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let range =
            |first, last| VlanRange::new(VlanId::new(first).unwrap(), VlanId::new(last).unwrap()).unwrap();
        let merged = VlanRange::merged(vec![
            range(20, 30),
            range(4094, 4094),
            range(1, 5),
            range(6, 7),
            range(25, 40),
        ]);
        assert_eq!(merged, [range(1, 7), range(20, 40), range(4094, 4094)]);
        assert_eq!(merged.iter().map(ToString::to_string).collect::<Vec<_>>(), ["1-7", "20-40", "4094"]);
    }
}
