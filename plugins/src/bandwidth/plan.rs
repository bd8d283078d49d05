//! Limits as steps. Pure.
//!
//! What the container receives is what the host's end of its veth pair sends, so the queue of that is limited. What
//! the container sends, the host's end receives, and there is no queue for that: it is redirected through an ifb,
//! whose queue is limited.

use zeugma_journal::Record;
use zeugma_model::{AttachmentId, IfName, Mac};
use zeugma_plan::{End, Exceptions, Link, LinkChange, LinkKind, Plan, Shaper, Side, Step, TokenBucket};

use super::Error;
use super::config::{Config, Direction, Subnets};

/// What the plan rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// The host's end of the veth pair.
    pub(super) host_veth: IfName,
    /// Its MTU; none when it cannot be asked.
    pub(super) mtu: Option<u32>,
    /// The ifb to be.
    pub(super) ifb: IfName,
    /// An ifb of this name that is a leftover of the same attachment.
    pub(super) is_leftover: bool,
    /// The ifb's Ethernet address.
    pub(super) mac: Option<Mac>,
}

/// The steps that limit. Nothing passes a new queue before it is limited.
///
/// Fails when the bursts are too short for the link's packets.
pub(super) fn limited(config: &Config, id: &AttachmentId, facts: &Facts) -> Result<Plan, Error> {
    let mut plan = Plan::new();
    if let Some(bucket) = config.ingress {
        wide_enough(Direction::Ingress, &bucket, facts)?;
        plan.push(Step::Shape(facts.host_veth.clone(), shaper(bucket, config, Direction::Ingress)));
    }
    if let Some(bucket) = config.egress {
        wide_enough(Direction::Egress, &bucket, facts)?;
        if facts.is_leftover {
            plan.push_lasting(Step::DeleteLink(Side::Host, facts.ifb.clone()));
        }
        plan.push(Step::CreateLink(Link {
            side: Side::Host,
            name: facts.ifb.clone(),
            mtu: facts.mtu,
            mac: facts.mac,
            alias: Some(id.alias()),
            kind: LinkKind::Ifb,
        }));
        plan.push(Step::Shape(facts.ifb.clone(), shaper(bucket, config, Direction::Egress)));
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        plan.push(Step::SetLink(Side::Host, facts.ifb.clone(), up));
        plan.push(Step::Redirect(facts.host_veth.clone(), facts.ifb.clone()));
    }
    Ok(plan)
}

/// The steps that lift the limits, with nothing lost on the way: packets that are redirected to a link that is gone
/// are dropped.
pub(super) fn lifted(record: &Record) -> Plan {
    let mut plan = Plan::new();
    if let Some(veth) = &record.host_veth {
        if record.ifb.is_some() {
            plan.push(Step::EndRedirect(veth.clone()));
        }
        if record.shaped {
            plan.push(Step::Unshape(veth.clone()));
        }
    }
    if let Some(ifb) = &record.ifb {
        plan.push(Step::DeleteLink(Side::Host, ifb.clone()));
    }
    plan
}

/// The queue of a direction. Subnets are the other side's: where packets to the container come from, and where its
/// own go.
pub(super) fn shaper(bucket: TokenBucket, config: &Config, way: Direction) -> Shaper {
    let end = match way {
        Direction::Ingress => End::Source,
        Direction::Egress => End::Destination,
    };
    let exceptions = config.subnets.as_ref().map(|subnets| match subnets {
        Subnets::Unshaped(subnets) => Exceptions { subnets: subnets.clone(), are_limited: false, end },
        Subnets::Shaped(subnets) => Exceptions { subnets: subnets.clone(), are_limited: true, end },
    });
    Shaper { bucket, exceptions }
}

/// A packet that is larger than the burst is dropped, always.
fn wide_enough(way: Direction, bucket: &TokenBucket, facts: &Facts) -> Result<(), Error> {
    /// The header before the packet: addresses and protocol.
    const ETHERNET: u32 = 14;
    let Some(packet) = facts.mtu.map(|mtu| mtu.saturating_add(ETHERNET)) else { return Ok(()) };
    if bucket.largest_packet() >= packet.into() {
        return Ok(());
    }
    let rate = bucket.rate.get().saturating_mul(8);
    let least = bucket.least_burst(packet);
    if least >= u32::MAX.into() {
        return Err(Error::RateHigh { way, rate });
    }
    let longest = TokenBucket { burst: u32::MAX, ..*bucket };
    if longest.largest_packet() < packet.into() {
        return Err(Error::RateSmall { way, rate, packet });
    }
    Err(Error::BurstShort {
        way,
        burst: u64::from(bucket.burst) * 8,
        packet,
        link: facts.host_veth.clone(),
        least: least.saturating_mul(8),
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use zeugma_protocol::CniCode;

    use super::*;

    fn id() -> AttachmentId {
        let (network, container, ifname) = ("net".parse(), "web".parse(), "eth0".parse());
        AttachmentId { network: network.unwrap(), container: container.unwrap(), ifname: ifname.unwrap() }
    }

    fn facts() -> Facts {
        Facts {
            host_veth: "veth1".parse().unwrap(),
            mtu: Some(1500),
            ifb: id().ifb(),
            is_leftover: false,
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        }
    }

    fn bucket(rate: u64, burst: u32) -> Option<TokenBucket> {
        Some(TokenBucket { rate: NonZeroU64::new(rate).unwrap(), burst })
    }

    #[test]
    fn both_directions() {
        let config =
            Config { ingress: bucket(2_500_000, 250_000), egress: bucket(1_250_000, 125_000), subnets: None };
        insta::assert_snapshot!(limited(&config, &id(), &facts()).unwrap());
    }

    #[test]
    fn subnets_are_the_other_side_s() {
        let subnets = ["10.0.0.0/8", "2001:db8::/32"].map(|subnet| subnet.parse().unwrap()).to_vec();
        let (ingress, egress) = (bucket(2_500_000, 250_000), bucket(1_250_000, 125_000));
        let unshaped = Config { ingress, egress: None, subnets: Some(Subnets::Unshaped(subnets.clone())) };
        let shaped = Config { ingress: None, egress, subnets: Some(Subnets::Shaped(subnets)) };
        let plans = [unshaped, shaped].map(|config| limited(&config, &id(), &facts()).unwrap().to_string());
        insta::assert_snapshot!(plans.join("\n"));
    }

    #[test]
    fn what_a_plan_makes_the_record_takes_away() {
        let config =
            Config { ingress: bucket(2_500_000, 250_000), egress: bucket(1_250_000, 125_000), subnets: None };
        let plan = limited(&config, &id(), &facts()).unwrap();
        let undo: Vec<Step> = plan.undo_of(&(0..plan.steps().len()).collect::<Vec<_>>());
        let record = Record {
            host_veth: Some(facts().host_veth),
            shaped: true,
            ifb: Some(id().ifb()),
            ..Record::default()
        };
        let lifted = lifted(&record);
        // The ifb's queue goes with the ifb.
        assert!(
            undo.iter()
                .all(|step| lifted.steps().any(|other| other == step) || *step == Step::Unshape(id().ifb()))
        );
        assert!(lifted.steps().all(|step| undo.contains(step)));
    }

    #[test]
    fn a_burst_that_holds_no_packet_is_refused_with_the_least_that_does() {
        let config = Config { ingress: bucket(2_500_000, 1000), ..Config::default() };
        let error = limited(&config, &id(), &facts()).unwrap_err();
        let Error::BurstShort { least, .. } = &error else { panic!("{error}") };
        let burst = u32::try_from(least / 8).unwrap();
        let config = Config { ingress: bucket(2_500_000, burst), ..Config::default() };
        assert!(error.code().number() == 7 && limited(&config, &id(), &facts()).is_ok(), "{error}");
        let slow = Config { egress: bucket(100, u32::MAX - 1), ..Config::default() };
        assert!(matches!(limited(&slow, &id(), &facts()), Err(Error::RateSmall { .. })));
        let fast = Config { ingress: bucket(u64::MAX / 8, u32::MAX - 1), ..Config::default() };
        assert!(limited(&fast, &id(), &facts()).unwrap_err().to_string().contains("is too high"));
    }
}
