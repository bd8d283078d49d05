//! Where a container asks, whom the resolver asks, and what the container is told. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use zeugma_journal::{Listen, Resolver};
use zeugma_model::AttachmentId;
use zeugma_protocol::{CniResult, Dns};

use super::Error;
use super::config::{Config, Mode, PORT, server};

/// The address inside a container, the same as Docker's.
pub(super) const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The gateways of the result that are the host's, each once, in the order of the addresses. A link-local one is no
/// address without its interface, which resolv.conf has no room for.
pub(super) fn gateways(result: &CniResult, of_host: &[IpAddr]) -> Vec<IpAddr> {
    let is_link_local = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let mut gateways = Vec::new();
    for gateway in result.ips.iter().filter_map(|ip| ip.gateway) {
        if of_host.contains(&gateway) && !gateways.contains(&gateway) && !is_link_local(&gateway) {
            gateways.push(gateway);
        }
    }
    gateways
}

/// Whether the container asks inside, or at these gateways.
///
/// Fails when it has to ask at a gateway, and there is none.
pub(super) fn asks_inside(mode: Mode, gateways: &[IpAddr]) -> Result<bool, Error> {
    match (mode, gateways.is_empty()) {
        (Mode::Container, _) | (Mode::Fitting, true) => Ok(true),
        (Mode::Gateway | Mode::Fitting, false) => Ok(false),
        (Mode::Gateway, true) => Err(Error::NoGateway),
    }
}

/// What the record says to whoever answers.
pub(super) fn told(config: &Config, listen: Listen, result: &CniResult) -> Resolver {
    Resolver {
        domain: config.domain.clone(),
        names: config.names.clone(),
        internal: config.internal,
        servers: upstreams(config, &listen, result),
        forward: config
            .forward
            .iter()
            .map(|(domain, servers)| (domain.clone(), without_ours(servers.clone(), &listen)))
            .collect(),
        listen,
    }
}

/// Who is asked about other names: whom the IPAM named where nobody else did. Never the resolver itself.
fn upstreams(config: &Config, listen: &Listen, result: &CniResult) -> Vec<SocketAddr> {
    let of_result = || result.dns.nameservers.iter().filter_map(|text| server(text)).collect();
    let servers = if config.servers.is_empty() { of_result() } else { config.servers.clone() };
    without_ours(servers, listen)
}

fn without_ours(mut servers: Vec<SocketAddr>, listen: &Listen) -> Vec<SocketAddr> {
    let ours = addresses(listen);
    servers.retain(|server| server.port() != PORT || !ours.contains(&server.ip()));
    servers
}

fn addresses(listen: &Listen) -> Vec<IpAddr> {
    match listen {
        Listen::Gateway(gateways) => gateways.clone(),
        Listen::Container(_) => vec![INSIDE.into()],
    }
}

/// The result with the resolver's addresses as the only name servers, and its domain first in the search list.
pub(super) fn answered(mut result: CniResult, config: &Config, listen: &Listen) -> CniResult {
    let Dns { search, mut options, .. } = result.dns;
    let mut searched = vec![config.domain.clone()];
    for domain in search.into_iter().chain(config.searches.iter().cloned()) {
        if !searched.contains(&domain) {
            searched.push(domain);
        }
    }
    for option in &config.options {
        if !options.contains(option) {
            options.push(option.clone());
        }
    }
    result.dns = Dns {
        nameservers: addresses(listen).iter().map(ToString::to_string).collect(),
        domain: Some(config.domain.clone()),
        search: searched,
        options,
    };
    result
}

/// What a person reads of it in a dry run: who answers is no step.
pub(super) fn preview(id: &AttachmentId, config: &Config, listen: &Listen) -> String {
    let asked: Vec<String> = addresses(listen).iter().map(ToString::to_string).collect();
    format!("container: asks {}\nagent: answers names of {id} below {}\n", asked.join(", "), config.domain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zeugma_protocol::{NetConf, Version};

    use super::*;

    fn result() -> CniResult {
        let json = json!({
            "ips": [
                {"address": "10.88.0.2/24", "gateway": "10.88.0.1"},
                {"address": "10.88.0.3/24", "gateway": "10.88.0.1"},
                {"address": "2001:db8::2/64", "gateway": "2001:db8::1"},
                {"address": "2001:db8::3/64", "gateway": "fe80::1"},
            ],
            "dns": {"nameservers": ["192.0.2.53", "10.88.0.1", "x"], "search": ["lan"], "options": ["ndots:2"]},
        });
        CniResult::from_json(&json, Version::V1_0_0).unwrap()
    }

    fn config(keys: serde_json::Value) -> Config {
        let mut conf = json!({"cniVersion": "1.0.0", "name": "net", "type": "resolver"});
        conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        Config::of_network(&NetConf::parse(conf.to_string().as_bytes()).unwrap()).unwrap()
    }

    fn hosts() -> [IpAddr; 2] {
        ["10.88.0.1", "192.0.2.1"].map(|text| text.parse().unwrap())
    }

    #[test]
    fn only_gateways_of_the_host_are_asked() {
        assert_eq!(gateways(&result(), &hosts()), [hosts()[0]]);
        assert!(gateways(&result(), &[]).is_empty());
        assert!(gateways(&result(), &["fe80::1".parse().unwrap()]).is_empty());
    }

    #[test]
    fn who_names_no_mode_asks_at_the_gateway_if_there_is_one() {
        let check =
            |mode, gateways: &[IpAddr]| asks_inside(mode, gateways).map_err(|error| error.to_string());
        assert_eq!(check(Mode::Fitting, &hosts()), Ok(false));
        assert_eq!(check(Mode::Fitting, &[]), Ok(true));
        assert_eq!(check(Mode::Container, &hosts()), Ok(true));
        assert!(check(Mode::Gateway, &[]).unwrap_err().contains("isGateway"));
    }

    #[test]
    fn the_ipam_s_servers_become_upstreams_but_never_the_resolver_itself() {
        let listen = Listen::Gateway(vec![hosts()[0]]);
        let servers = |keys| told(&config(keys), listen.clone(), &result()).servers;
        assert_eq!(servers(json!({})), ["192.0.2.53:53".parse().unwrap()]);
        let named = json!({"servers": ["192.0.2.54", "10.88.0.1", "10.88.0.1:5353"]});
        assert_eq!(servers(named), ["192.0.2.54:53", "10.88.0.1:5353"].map(|text| text.parse().unwrap()));
    }

    #[test]
    fn the_container_asks_us_alone_and_searches_our_domain_first() {
        let dns = answered(result(), &config(json!({"domain": "lan"})), &Listen::Container(20_000)).dns;
        assert_eq!((dns.nameservers, dns.search), (vec!["127.0.0.11".into()], vec!["lan".to_owned()]));
        let dns = answered(result(), &config(json!({})), &Listen::Gateway(hosts().into())).dns;
        assert_eq!(dns.nameservers, ["10.88.0.1", "192.0.2.1"]);
        assert_eq!(
            (dns.search, dns.options),
            (vec!["zeugma.internal".into(), "lan".into()], vec!["ndots:2".into()])
        );
    }
}
