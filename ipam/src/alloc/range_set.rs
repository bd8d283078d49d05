//! A set of ranges that are alternatives: a container gets one address of each set.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::range::{Range, RangeError, RangeRaw, successor};

/// Ranges of one family that do not overlap; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeSet(Vec<Range>);

/// An address that may be handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// With the length of its subnet.
    pub(crate) address: IpNetwork,
    /// The gateway of its range.
    pub(crate) gateway: IpAddr,
}

impl RangeSet {
    /// Round robin: all addresses once, from the one after `last` on, without the gateways. `last` may be
    /// anything; outside of the set it means the beginning.
    pub(crate) fn candidates(&self, last: Option<IpAddr>) -> Candidates<'_> {
        let left = self.0.iter().fold(0u128, |sum, range| sum.saturating_add(range.span()));
        let mut candidates = Candidates { ranges: &self.0, at: 0, next: self.0[0].first, left };
        let resumed =
            last.and_then(|last| Some((self.0.iter().position(|range| range.contains(last))?, last)));
        if let Some((at, last)) = resumed {
            (candidates.at, candidates.next) = (at, last);
            candidates.advance();
        }
        candidates
    }

    /// The first candidate that is not taken; none when the set is exhausted.
    pub(crate) fn first_free(
        &self,
        last: Option<IpAddr>,
        taken: impl Fn(IpAddr) -> bool,
    ) -> Option<Candidate> {
        self.candidates(last).find(|candidate| !taken(candidate.address.ip()))
    }

    /// The address as a candidate of the range it lies in.
    pub(crate) fn candidate(&self, address: IpAddr) -> Option<Candidate> {
        self.range_for(address).map(|range| range.candidate(address))
    }

    pub(crate) fn range_for(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().any(|range| other.0.iter().any(|other| range.overlaps(other)))
    }

    /// Any address of it, for its family.
    pub(crate) fn sample(&self) -> IpAddr {
        self.0[0].first
    }
}

impl Range {
    fn candidate(&self, address: IpAddr) -> Candidate {
        let address =
            IpNetwork::new(address, self.subnet.prefix()).expect("a subnet's length fits its own family");
        Candidate { address, gateway: self.gateway }
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, range) in self.0.iter().enumerate() {
            write!(formatter, "{}{range}", if position == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl TryFrom<Vec<RangeRaw>> for RangeSet {
    type Error = RangeError;
    fn try_from(raw: Vec<RangeRaw>) -> Result<Self, RangeError> {
        let ranges = raw.into_iter().map(Range::try_from).collect::<Result<Vec<_>, _>>()?;
        let family = ranges.first().ok_or(RangeError::EmptySet)?.first.is_ipv4();
        if ranges.iter().any(|range| range.first.is_ipv4() != family) {
            return Err(RangeError::MixedFamilies);
        }
        for (position, one) in ranges.iter().enumerate() {
            if let Some(other) = ranges[position + 1..].iter().find(|other| one.overlaps(other)) {
                return Err(RangeError::Overlap { one: one.to_string(), other: other.to_string() });
            }
        }
        Ok(Self(ranges))
    }
}

/// See [`RangeSet::candidates`].
pub(crate) struct Candidates<'a> {
    ranges: &'a [Range],
    at: usize,
    next: IpAddr,
    /// Addresses not looked at, gateways included.
    left: u128,
}

impl Candidates<'_> {
    fn advance(&mut self) {
        if self.next == self.ranges[self.at].last {
            self.at = (self.at + 1) % self.ranges.len();
            self.next = self.ranges[self.at].first;
        } else {
            self.next = successor(self.next);
        }
    }
}

impl Iterator for Candidates<'_> {
    type Item = Candidate;
    fn next(&mut self) -> Option<Candidate> {
        while self.left > 0 {
            self.left -= 1;
            let (range, address) = (&self.ranges[self.at], self.next);
            self.advance();
            if address != range.gateway {
                return Some(range.candidate(address));
            }
        }
        None
    }
}
