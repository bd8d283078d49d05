//! Virtual addresses that a service must not have here: with this host's own as one, every connection to the host
//! would be refused. Pure.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_model::{Mode, Vips};
use zeugma_services::Workload;

/// The addresses of somebody else.
#[derive(Debug, Default)]
pub(crate) struct Occupied {
    own: HashSet<IpAddr>,
    subnets: Vec<IpNetwork>,
}

impl Occupied {
    /// This host's addresses, and the subnets of containers.
    pub(crate) fn new(own: impl IntoIterator<Item = IpAddr>, subnets: Vec<IpNetwork>) -> Self {
        Self { own: own.into_iter().collect(), subnets }
    }

    /// Why this is no address for a service; none: it is one.
    pub(crate) fn why(&self, vip: IpAddr) -> Option<String> {
        if self.own.contains(&vip) {
            return Some(format!("{vip} is an address of this host"));
        }
        let subnet = self.subnets.iter().find(|subnet| subnet.contains(vip))?;
        Some(format!("{vip} is in {subnet}, where containers have their addresses"))
    }

    /// Takes from the service the addresses that are no service's; what was taken, and why, a line each.
    pub(super) fn fit(&self, workload: &mut Workload) -> Vec<(IpAddr, String)> {
        let service = &mut workload.service;
        let Mode::Vip(vips) = service.mode else { return Vec::new() };
        let line = |vip: IpAddr| {
            let why = self.why(vip)?;
            Some((
                vip,
                format!("{}: {why}: it is not programmed here: give the service another one", service.name),
            ))
        };
        let unfit: Vec<(IpAddr, String)> = vips.iter().filter_map(line).collect();
        let is_fit = |vip: IpAddr| unfit.iter().all(|(taken, _)| *taken != vip);
        service.mode = Mode::Vip(Vips {
            v4: vips.v4.filter(|v4| is_fit((*v4).into())),
            v6: vips.v6.filter(|v6| is_fit((*v6).into())),
        });
        unfit
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_of_the_host_or_of_containers_is_no_services() {
        let occupied = Occupied::new(["192.0.2.1".parse().unwrap()], vec!["fd00:88::/64".parse().unwrap()]);
        let check = |vips: [&str; 2], fit: &[&str]| {
            let service = json!({"name": "web", "vips": vips, "ports": [{"port": 80}]});
            let service = serde_json::from_value(service).unwrap();
            let mut workload = Workload { service, endpoints: Vec::new() };
            let unfit = occupied.fit(&mut workload);
            let left: Vec<String> = workload.service.vips().iter().map(|vip| vip.to_string()).collect();
            assert_eq!(
                (left.as_slice(), unfit.len()),
                (&*fit.iter().map(|fit| (*fit).to_owned()).collect::<Vec<_>>(), 2 - fit.len())
            );
        };
        check(["192.0.2.1", "fd00:88::9"], &[]);
        check(["192.0.2.2", "fd00:88::9"], &["192.0.2.2"]);
        check(["192.0.2.1", "fd00:89::9"], &["fd00:89::9"]);
        check(["192.0.2.2", "fd00:89::9"], &["192.0.2.2", "fd00:89::9"]);
    }
}
