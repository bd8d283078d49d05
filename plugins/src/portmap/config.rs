//! What `portmap` can be told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;

use serde::Deserialize;
use zeugma_model::{HostAddress, PortMapping, Protocol};
use zeugma_plan::{any_addresses, claim_conflicts};
use zeugma_protocol::NetConf;
use zeugma_skel::Request;

use super::Error;

/// The keys as they stand in the configuration; defaults are the reference's.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Raw {
    /// `iptables` or `nftables`; both mean our nftables table, neither program is needed. Default: none.
    backend: Option<String>,
    /// Whether ports are reachable on 127.0.0.1 of the host, too, and from the container's own subnet,
    /// itself included: such clients get the host's address, so that answers come back through the host.
    /// Default true.
    snat: Option<bool>,
    /// Refused with code 2 unless empty; see [Limit who may connect](#limit-who-may-connect). Default: none.
    conditions_v4: Option<Vec<String>>,
    /// The same for IPv6. Default: none.
    conditions_v6: Option<Vec<String>>,
    /// Whether all clients of the container's ports get the host's address. Default false.
    masq_all: bool,
    /// 0 to 31; accepted and without effect: zeugma sets no packet marks. Default: none.
    mark_masq_bit: Option<i64>,
    /// Refused with code 2 ([why](../decisions/0006-external-chains-and-conditions-are-refused.md)).
    /// Default: none.
    external_set_mark_chain: Option<String>,
    /// The configuration of a plugin that `portmap` calls itself, for callers that know no lists of plugins: see
    /// [Around another plugin](#around-another-plugin). Default: none.
    delegate: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A mapping as the runtime writes it; containerd writes the keys with a capital.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMapping {
    host_port: i64,
    container_port: i64,
    #[serde(default = "tcp")]
    protocol: String,
    #[serde(rename = "hostIP", default)]
    host_ip: Option<String>,
}

/// A mapping as a Mesos agent writes it.
#[derive(Debug, Deserialize)]
struct RawMesosMapping {
    host_port: i64,
    container_port: i64,
    #[serde(default = "tcp")]
    protocol: String,
}

fn tcp() -> String {
    "tcp".into()
}

/// What to publish, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    /// Whether clients whose answers would go astray are masqueraded.
    pub(super) snat: bool,
    /// Whether all clients are.
    pub(super) masquerade_all: bool,
    /// The published ports.
    pub(super) ports: Vec<PortMapping>,
}

impl Config {
    pub(super) fn of_network(conf: &NetConf) -> Result<Self, Error> {
        let raw: Raw = conf.plugin_config()?;
        check(&raw)?;
        Ok(Self { snat: raw.snat.unwrap_or(true), masquerade_all: raw.masq_all, ports: Vec::new() })
    }

    pub(super) fn of(request: &Request) -> Result<Self, Error> {
        let mut config = Self::of_network(&request.conf)?;
        let mappings: Option<Vec<RawMapping>> = request.conf.capability("portMappings")?;
        let of_mesos: Option<Vec<RawMesosMapping>> = request.conf.arg_mesos("port_mappings")?;
        let mappings = mappings.unwrap_or_default();
        let of_mesos = of_mesos.unwrap_or_default();
        let ports = mappings.iter().map(mapping).chain(of_mesos.iter().map(mesos_mapping));
        let ports = ports.collect::<Result<Vec<_>, _>>()?;
        // The same mapping twice is one.
        let mut seen = BTreeSet::new();
        config.ports = ports.into_iter().filter(|port| seen.insert(*port)).collect();
        refuse_twins(&config.ports)?;
        Ok(config)
    }
}

/// Two mappings of one host port cannot both lead somewhere.
fn refuse_twins(ports: &[PortMapping]) -> Result<(), Error> {
    let places = |port: &PortMapping| any_addresses(port.host_address);
    let meet = |one: &PortMapping, other: &PortMapping| {
        places(one).iter().any(|a| places(other).iter().any(|b| claim_conflicts(*a, *b)))
    };
    let mut by_port: BTreeMap<(Protocol, NonZeroU16), Vec<&PortMapping>> = BTreeMap::new();
    for port in ports {
        let others = by_port.entry((port.protocol, port.host_port)).or_default();
        if let Some(twin) = others.iter().find(|other| meet(port, other)) {
            return Err(Error::Twins {
                port: format!("{}/{}", port.host_port, port.protocol),
                one: twin.container_port.get(),
                other: port.container_port.get(),
            });
        }
        others.push(port);
    }
    Ok(())
}

fn check(raw: &Raw) -> Result<(), Error> {
    if let Some(other) =
        raw.backend.as_deref().filter(|backend| !["", "iptables", "nftables"].contains(backend))
    {
        return Err(Error::Backend(other.into()));
    }
    if raw.mark_masq_bit.is_some() && raw.external_set_mark_chain.is_some() {
        return Err(Error::MarkTwice);
    }
    if let Some(bit) = raw.mark_masq_bit.filter(|bit| !(0..=31).contains(bit)) {
        return Err(Error::MarkBit(bit));
    }
    if let Some(chain) = &raw.external_set_mark_chain {
        return Err(Error::Unsupported { key: "externalSetMarkChain", value: chain.clone() });
    }
    for (key, conditions) in [("conditionsV4", &raw.conditions_v4), ("conditionsV6", &raw.conditions_v6)] {
        if let Some(conditions) = conditions.as_ref().filter(|conditions| !conditions.is_empty()) {
            return Err(Error::Unsupported { key, value: conditions.join(" ") });
        }
    }
    Ok(())
}

fn mapping(raw: &RawMapping) -> Result<PortMapping, Error> {
    let protocol: Protocol = raw.protocol.parse().map_err(Error::Protocol)?;
    let address: Option<IpAddr> = match raw.host_ip.as_deref().unwrap_or_default() {
        "" => None,
        text => Some(text.trim_matches(['[', ']']).parse().map_err(|_| Error::HostIp(text.into()))?),
    };
    Ok(PortMapping {
        host_port: port("hostPort", raw.host_port)?,
        container_port: port("containerPort", raw.container_port)?,
        protocol,
        host_address: HostAddress::from_ip(address),
    })
}

fn mesos_mapping(raw: &RawMesosMapping) -> Result<PortMapping, Error> {
    Ok(PortMapping {
        host_port: port("host_port", raw.host_port)?,
        container_port: port("container_port", raw.container_port)?,
        protocol: raw.protocol.parse().map_err(Error::Protocol)?,
        host_address: HostAddress::Any,
    })
}

fn port(key: &'static str, value: i64) -> Result<NonZeroU16, Error> {
    u16::try_from(value).ok().and_then(NonZeroU16::new).ok_or(Error::Port { key, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerd_and_podman_write_the_same_mapping() {
        let read = |text| {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            mapping(&zeugma_protocol::read(&value, "").unwrap()).unwrap()
        };
        let podman = r#"{"hostPort":8080,"containerPort":80,"protocol":"udp","hostIP":"192.0.2.1"}"#;
        let containerd = r#"{"HostPort":8080,"ContainerPort":80,"Protocol":"udp","HostIP":"192.0.2.1"}"#;
        assert_eq!(read(containerd), read(podman));
    }
}
