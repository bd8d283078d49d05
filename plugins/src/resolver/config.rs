//! What `resolver` can be told, under its own keys and under those of `dnsname`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use zeugma_model::Alias;
use zeugma_protocol::NetConf;
use zeugma_skel::Request;

use super::Error;

/// Below this domain names answer where a network has none of its own.
pub(super) const DOMAIN: &str = "zeugma.internal";
/// DNS.
pub(super) const PORT: u16 = 53;
/// nerdctl tells a container's host name by this argument.
const NERDCTL_HOSTNAME: &str = "NERDCTL_CNI_DHCP_HOSTNAME";

/// The keys as they stand in the configuration.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Raw {
    /// Where the container asks: `gateway`, the network's gateway addresses, or `container`, 127.0.0.11 inside the
    /// container. Default: `gateway` where a gateway address is the host's, else `container`.
    mode: Option<String>,
    /// The domain below which the network's names answer, too, and which the container searches. Default
    /// `zeugma.internal`.
    domain: Option<String>,
    /// Whether other names than the network's stay unanswered. Default false.
    internal: bool,
    /// Who is asked about other names: addresses, as in `192.0.2.53`, `192.0.2.53:5353` or `[2001:db8::53]:5353`.
    /// Default: what the runtime or the IPAM names, else the servers of the host's resolv.conf.
    servers: Option<Vec<String>>,
    /// Who is asked about names below a domain, the longest domain that fits: lists as in `servers`, by domain.
    /// Default: none.
    forward: Option<BTreeMap<String, Vec<String>>>,
    /// More names of the container itself. Default: none.
    names: Option<Vec<String>>,
    /// Whether STATUS fails with code 51 while no agent runs. ADD never does. Default false.
    require_agent: bool,
    /// As `domain`, in the words of `dnsname`. Default: none.
    domain_name: Option<String>,
    /// Accepted for `dnsname`, and always so: a container resolves the names of all its networks. Default: none.
    multi_domain: Option<bool>,
    /// As `servers`, in the words of `dnsname`: also `192.0.2.53#5353`, and `/example.org/192.0.2.53` for a domain.
    /// Default: none.
    remote_servers: Option<Vec<String>>,
    /// The same as `remoteServers`. Default: none.
    local_servers: Option<Vec<String>>,
}

/// The capability argument `dns`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuntimeDns {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// Where the container asks, as far as the configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Where the host has a gateway's address there, else inside the container.
    Fitting,
    /// At the gateways.
    Gateway,
    /// Inside the container.
    Container,
}

/// What to answer, where, and whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) mode: Mode,
    pub(super) domain: String,
    pub(super) internal: bool,
    /// None were named: empty.
    pub(super) servers: Vec<SocketAddr>,
    pub(super) forward: BTreeMap<String, Vec<SocketAddr>>,
    pub(super) names: Vec<Alias>,
    /// Domains that the runtime wants searched.
    pub(super) searches: Vec<String>,
    /// Options of resolv.conf that the runtime wants.
    pub(super) options: Vec<String>,
    pub(super) require_agent: bool,
}

impl Config {
    /// The keys of the network alone.
    pub(super) fn of_network(conf: &NetConf) -> Result<Self, Error> {
        let raw: Raw = conf.plugin_config()?;
        let mut forward = BTreeMap::new();
        for (name, texts) in raw.forward.iter().flatten() {
            forward.insert(domain(name)?, servers(texts)?);
        }
        let mut named = servers(raw.servers.as_deref().unwrap_or_default())?;
        for text in [&raw.remote_servers, &raw.local_servers].into_iter().flatten().flatten() {
            let (domains, server) = dnsmasq_server(text)?;
            if domains.is_empty() {
                named.push(server);
            }
            for name in domains {
                forward.entry(name).or_insert_with(Vec::new).push(server);
            }
        }
        let given = raw.domain.as_deref().or(raw.domain_name.as_deref()).filter(|text| !text.is_empty());
        Ok(Self {
            mode: mode(raw.mode.as_deref())?,
            domain: given.map_or_else(|| Ok(DOMAIN.into()), domain)?,
            internal: raw.internal,
            servers: named,
            forward,
            names: names(raw.names.as_deref().unwrap_or_default())?,
            searches: Vec::new(),
            options: Vec::new(),
            require_agent: raw.require_agent,
        })
    }

    /// The network's keys and what the runtime says of this container, whose servers win.
    pub(super) fn of(request: &Request) -> Result<Self, Error> {
        let mut config = Self::of_network(&request.conf)?;
        let told: RuntimeDns = request.conf.capability("dns")?.unwrap_or_default();
        if !told.servers.is_empty() {
            config.servers = servers(&told.servers)?;
        }
        config.searches = told.searches;
        config.options = told.options;
        // What the caller calls it need not be a name.
        let host_name = request.args.get(NERDCTL_HOSTNAME).and_then(|name| name.parse().ok());
        config.names.extend(host_name);
        config.names.sort();
        config.names.dedup();
        Ok(config)
    }
}

fn mode(text: Option<&str>) -> Result<Mode, Error> {
    match text.unwrap_or_default() {
        "" => Ok(Mode::Fitting),
        "gateway" => Ok(Mode::Gateway),
        "container" => Ok(Mode::Container),
        other => Err(Error::Mode(other.into())),
    }
}

/// Domains are compared without regard to case, so they are kept in lower case.
fn domain(text: &str) -> Result<String, Error> {
    let name = text.trim_matches('.');
    match name.parse::<Alias>() {
        Ok(name) => Ok(name.as_str().to_ascii_lowercase()),
        Err(_) => Err(Error::Domain(text.into())),
    }
}

fn names(texts: &[String]) -> Result<Vec<Alias>, Error> {
    texts.iter().map(|text| text.parse().map_err(Error::Name)).collect()
}

fn servers(texts: &[String]) -> Result<Vec<SocketAddr>, Error> {
    texts.iter().map(|text| server(text).ok_or_else(|| Error::Server(text.clone()))).collect()
}

/// An address, or an address and a port.
pub(super) fn server(text: &str) -> Option<SocketAddr> {
    let address: Option<IpAddr> = text.trim_matches(['[', ']']).parse().ok();
    let server = address.map(|address| SocketAddr::new(address, PORT)).or_else(|| text.parse().ok())?;
    let can_be_asked = server.port() != 0 && !server.ip().is_unspecified() && !server.ip().is_multicast();
    can_be_asked.then_some(server)
}

/// A server in dnsmasq's words: `[/DOMAIN/…/]ADDRESS[#PORT]`.
fn dnsmasq_server(text: &str) -> Result<(Vec<String>, SocketAddr), Error> {
    let (domains, address) = match text.strip_prefix('/').and_then(|rest| rest.rsplit_once('/')) {
        Some((domains, address)) => (domains.split('/').map(domain).collect::<Result<Vec<_>, _>>()?, address),
        None => (Vec::new(), text),
    };
    let with_port = || {
        let (address, port) = address.split_once('#')?;
        server(&SocketAddr::new(address.parse().ok()?, port.parse().ok()?).to_string())
    };
    let found = server(address).or_else(with_port).ok_or_else(|| Error::Server(text.into()))?;
    Ok((domains, found))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use zeugma_protocol::CniCode;

    use super::*;

    fn config(keys: Value) -> Result<Config, Error> {
        let mut conf = json!({"cniVersion": "1.0.0", "name": "net", "type": "resolver"});
        conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        Config::of_network(&NetConf::parse(conf.to_string().as_bytes()).unwrap())
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn nothing_said_is_the_usual() {
        let config = config(json!({})).unwrap();
        assert_eq!((config.mode, config.domain.as_str()), (Mode::Fitting, "zeugma.internal"));
        assert!(!config.internal && config.servers.is_empty() && config.forward.is_empty());
    }

    #[test]
    fn servers_have_ports_and_domains_have_no_dots_at_their_ends() {
        let config = config(json!({
            "domain": "Blue.Example.", "servers": ["192.0.2.53", "[2001:db8::53]:5353", "2001:db8::1"],
            "forward": {".corp.example": ["192.0.2.54:5353"]},
        }));
        let config = config.unwrap();
        assert_eq!(config.domain, "blue.example");
        assert_eq!(config.servers, addresses(&["192.0.2.53:53", "[2001:db8::53]:5353", "[2001:db8::1]:53"]));
        assert_eq!(config.forward["corp.example"], addresses(&["192.0.2.54:5353"]));
    }

    #[test]
    fn dnsname_s_words_mean_the_same() {
        let config = config(json!({
            "type": "dnsname", "domainName": "dns.podman", "multiDomain": true,
            "remoteServers": ["192.0.2.53#5353", "/corp.example/192.0.2.54"], "localServers": ["192.0.2.55"],
        }));
        let config = config.unwrap();
        assert_eq!(config.domain, "dns.podman");
        assert_eq!(config.servers, addresses(&["192.0.2.53:5353", "192.0.2.55:53"]));
        assert_eq!(config.forward["corp.example"], addresses(&["192.0.2.54:53"]));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (keys, word) in [
            (json!({"mode": "host"}), "host"),
            (json!({"domain": "a..b"}), "a..b"),
            (json!({"domain": "."}), "\".\""),
            (json!({"servers": ["dns.example"]}), "dns.example"),
            (json!({"servers": ["192.0.2.53:0"]}), "192.0.2.53:0"),
            (json!({"servers": ["0.0.0.0"]}), "0.0.0.0"),
            (json!({"forward": {"corp": ["x"]}}), "\"x\""),
            (json!({"forward": {"a b": []}}), "a b"),
            (json!({"names": ["a b"]}), "a b"),
            (json!({"remoteServers": ["/corp/"]}), "/corp/"),
        ] {
            let error = config(keys).unwrap_err();
            assert!(error.to_string().contains(word) && error.code().number() == 7, "{error}");
        }
        assert_eq!(config(json!({"servers": "192.0.2.53"})).unwrap_err().code().number(), 6);
    }
}
