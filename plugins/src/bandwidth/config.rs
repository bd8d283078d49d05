//! What `bandwidth` can be told.

use std::num::NonZeroU64;

use ipnetwork::IpNetwork;
use serde::Deserialize;
use zeugma_journal::{Bucket, Limits};
use zeugma_plan::TokenBucket;
use zeugma_protocol::NetConf;

use super::Error;

/// The keys, the same in the configuration and in the capability argument `bandwidth`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Raw {
    /// Bits per second that the container receives at most. Default 0: no limit.
    ingress_rate: Option<u64>,
    /// Bits that the container may receive at once; needed with `ingressRate`. Default 0.
    ingress_burst: Option<u64>,
    /// Bits per second that the container sends at most. Default 0: no limit.
    egress_rate: Option<u64>,
    /// Bits that the container may send at once; needed with `egressRate`. Default 0.
    egress_burst: Option<u64>,
    /// Subnets, as in `10.0.0.0/8`, whose traffic with the container is not limited. Default: none.
    unshaped_subnets: Option<Vec<String>>,
    /// Subnets whose traffic with the container alone is limited. Default: all traffic is.
    shaped_subnets: Option<Vec<String>>,
}

impl Raw {
    fn has_rates(&self) -> bool {
        [self.ingress_rate, self.ingress_burst, self.egress_rate, self.egress_burst]
            .iter()
            .any(Option::is_some)
    }

    fn has_subnets(&self) -> bool {
        self.unshaped_subnets.is_some() || self.shaped_subnets.is_some()
    }
}

/// Which way, as the container sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Into the container.
    Ingress,
    /// Out of it.
    Egress,
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// The other side's subnets that are treated unlike the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subnets {
    /// They are not limited.
    Unshaped(Vec<IpNetwork>),
    /// They alone are.
    Shaped(Vec<IpNetwork>),
}

/// What is limited, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) ingress: Option<TokenBucket>,
    pub(super) egress: Option<TokenBucket>,
    pub(super) subnets: Option<Subnets>,
}

impl Config {
    /// Rates in the configuration win over those of the runtime, all four together; so do subnets.
    pub(super) fn of(conf: &NetConf) -> Result<Self, Error> {
        let flat: Raw = conf.plugin_config()?;
        let told: Raw = conf.capability("bandwidth")?.unwrap_or_default();
        let rates = if flat.has_rates() { &flat } else { &told };
        let subnets = if flat.has_subnets() { &flat } else { &told };
        Ok(Self {
            ingress: bucket(Direction::Ingress, rates.ingress_rate, rates.ingress_burst)?,
            egress: bucket(Direction::Egress, rates.egress_rate, rates.egress_burst)?,
            subnets: subnets_of(subnets)?,
        })
    }

    /// As a record has them.
    pub(super) fn limits(&self) -> Limits {
        let bucket = |bucket: TokenBucket| Bucket { rate: bucket.rate, burst: bucket.burst };
        let (subnets, only_subnets) = match &self.subnets {
            None => (Vec::new(), false),
            Some(Subnets::Unshaped(subnets)) => (subnets.clone(), false),
            Some(Subnets::Shaped(subnets)) => (subnets.clone(), true),
        };
        Limits { ingress: self.ingress.map(bucket), egress: self.egress.map(bucket), subnets, only_subnets }
    }

    /// Whether nothing is limited.
    pub(super) fn is_empty(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}

fn bucket(way: Direction, rate: Option<u64>, burst: Option<u64>) -> Result<Option<TokenBucket>, Error> {
    let (rate, burst) = match (rate.unwrap_or(0), burst.unwrap_or(0)) {
        (0, 0) => return Ok(None),
        (_, 0) => return Err(Error::Lonely { way, has: "Rate", lacks: "Burst" }),
        (0, _) => return Err(Error::Lonely { way, has: "Burst", lacks: "Rate" }),
        both => both,
    };
    let burst = u32::try_from(burst / 8)
        .ok()
        .filter(|bytes| *bytes < u32::MAX)
        .ok_or(Error::BurstLong { way, burst })?;
    let rate = NonZeroU64::new(rate / 8).ok_or(Error::RateTiny { way, rate })?;
    Ok(Some(TokenBucket { rate, burst }))
}

fn subnets_of(raw: &Raw) -> Result<Option<Subnets>, Error> {
    let read = |texts: &Option<Vec<String>>| -> Result<Vec<IpNetwork>, Error> {
        let texts = texts.iter().flatten();
        texts.map(|text| subnet(text).ok_or_else(|| Error::Subnet(text.clone()))).collect()
    };
    match (read(&raw.unshaped_subnets)?, read(&raw.shaped_subnets)?) {
        (unshaped, shaped) if unshaped.is_empty() && shaped.is_empty() => Ok(None),
        (unshaped, shaped) if shaped.is_empty() => Ok(Some(Subnets::Unshaped(unshaped))),
        (unshaped, shaped) if unshaped.is_empty() => Ok(Some(Subnets::Shaped(shaped))),
        _ => Err(Error::BothSubnets),
    }
}

/// An address without prefix length is no subnet; host bits do not matter.
fn subnet(text: &str) -> Option<IpNetwork> {
    let network: IpNetwork = text.parse().ok().filter(|_| text.contains('/'))?;
    IpNetwork::new(network.network(), network.prefix()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use zeugma_protocol::CniCode;

    use super::*;

    fn config(keys: Value) -> Result<Config, Error> {
        let mut conf = json!({"cniVersion": "1.0.0", "name": "net", "type": "bandwidth"});
        conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        Config::of(&NetConf::parse(conf.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn rates_of_the_configuration_win_over_the_runtime_s() {
        let told = json!({"bandwidth": {"egressRate": 16_000_000, "egressBurst": 16_000_000}});
        let only_told = config(json!({"runtimeConfig": told})).unwrap();
        assert_eq!((only_told.ingress, only_told.egress.unwrap().rate.get()), (None, 2_000_000));
        let flat = json!({"ingressRate": 8_000_000, "ingressBurst": 80_000, "runtimeConfig": told});
        let both = config(flat).unwrap();
        assert_eq!((both.ingress.unwrap().burst, both.egress), (10_000, None));
        let subnets = json!({"unshapedSubnets": ["10.0.0.0/8"], "runtimeConfig": told});
        assert!(config(subnets).unwrap().egress.is_some());
    }

    #[test]
    fn halves_and_nonsense_are_refused_by_name() {
        for (keys, word) in [
            (json!({"ingressRate": 8_000_000}), "ingressBurst"),
            (json!({"egressBurst": 8_000_000}), "egressRate"),
            (json!({"egressRate": 8_000_000, "egressBurst": 34_359_738_360_u64}), "egressBurst"),
            (json!({"egressRate": 7, "egressBurst": 8_000_000}), "egressRate 7 is too low"),
            (json!({"unshapedSubnets": ["10.0.0.1"]}), "10.0.0.1"),
            (json!({"unshapedSubnets": ["10.0.0.0/8"], "shapedSubnets": ["::/0"]}), "shapedSubnets"),
        ] {
            let error = config(keys).unwrap_err();
            assert!(error.to_string().contains(word) && error.code().number() == 7, "{error}");
        }
        assert_eq!(config(json!({"ingressRate": -1})).unwrap_err().code().number(), 6);
    }

    #[test]
    fn zeros_and_nulls_are_no_limit() {
        let zeros = json!({"ingressRate": 0, "ingressBurst": 0, "egressRate": null});
        assert!(config(zeros).unwrap().is_empty());
    }
}
