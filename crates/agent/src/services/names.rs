//! A service as the resolver answers for it. Pure.

use std::net::IpAddr;

use zeugma_dns::zone::{NamedPort, NamedService};
use zeugma_model::{EndpointState, Mode, ServicePort};
use zeugma_services::Workload;

/// What its networks know of it by name.
pub(super) fn named(workload: &Workload) -> NamedService {
    let Workload { service, endpoints } = workload;
    let ready = endpoints.iter().filter(|endpoint| endpoint.state == EndpointState::Ready);
    let mut tasks: Vec<IpAddr> = ready.map(|endpoint| endpoint.address).collect();
    tasks.sort_unstable();
    tasks.dedup();
    let addresses = match service.mode {
        Mode::Dnsrr => tasks.clone(),
        Mode::Vip(vips) => {
            // A client takes the first address that it can reach: one of a family that nobody serves is none.
            let is_served = |vip: &IpAddr| {
                endpoints.is_empty() || endpoints.iter().any(|one| one.address.is_ipv4() == vip.is_ipv4())
            };
            vips.iter().filter(is_served).collect()
        }
    };
    let port = |port: &ServicePort| {
        let (protocol, number, target) = (port.protocol, port.port.get(), port.target());
        Some(NamedPort { name: port.name.clone()?, protocol, port: number, target })
    };
    NamedService {
        name: service.name.clone(),
        networks: service.networks.clone(),
        addresses,
        tasks,
        ports: service.ports.iter().filter_map(port).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(service: Value, endpoints: &[Value]) -> (Vec<String>, Vec<String>) {
        let endpoints = endpoints.iter().map(|one| serde_json::from_value(one.clone()).unwrap()).collect();
        let named = named(&Workload { service: serde_json::from_value(service).unwrap(), endpoints });
        let text = |list: Vec<IpAddr>| list.iter().map(ToString::to_string).collect();
        (text(named.addresses), text(named.tasks))
    }

    fn check(service: Value, endpoints: &[Value], addresses: &[&str], tasks: &[&str]) {
        let text = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        assert_eq!(told(service, endpoints), (text(addresses), text(tasks)));
    }

    #[test]
    fn a_name_has_addresses_of_the_families_that_somebody_serves() {
        let web = || json!({"name": "web", "vips": ["10.213.0.2", "fd00::2"]});
        check(web(), &[], &["10.213.0.2", "fd00::2"], &[]);
        check(web(), &[json!({"address": "10.88.0.2"})], &["10.213.0.2"], &["10.88.0.2"]);
        let both = [json!({"address": "fd88::2", "state": "unhealthy"}), json!({"address": "10.88.0.2"})];
        check(web(), &both, &["10.213.0.2", "fd00::2"], &["10.88.0.2"]);
    }

    #[test]
    fn without_a_virtual_address_the_name_is_who_serves() {
        let all = [json!({"address": "10.88.0.3"}), json!({"address": "10.88.0.2", "state": "draining"})];
        check(json!({"name": "web", "mode": "dnsrr"}), &all, &["10.88.0.3"], &["10.88.0.3"]);
    }
}
