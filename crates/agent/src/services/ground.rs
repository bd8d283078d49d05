//! The subnets of this host's containers and of other hosts', and what becomes of packets within them. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_model::{AttachmentId, Network, NetworkName, NodeName, Selector};
use zeugma_services::Situation;

use super::attached::{Attached, Wire};
use super::programming::Place;

/// How subnets are reached, as far as the journal and the catalogue tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ground {
    /// Those of this host's containers, and how many attachments each has.
    here: BTreeMap<(IpNetwork, Wire), usize>,
    /// Those of overlays, on whatever host, by network.
    overlays: BTreeSet<Vec<IpNetwork>>,
    /// Those of other hosts' own networks: inside, where there is a route.
    elsewhere: BTreeSet<IpNetwork>,
}

impl Ground {
    /// One more attachment with these, or one less. Subnets that come or go with it are added to `moved`.
    fn count(&mut self, attached: &Attached, there: bool, moved: &mut BTreeSet<IpNetwork>) {
        for address in &attached.addresses {
            let Ok(subnet) = IpNetwork::new(address.network(), address.prefix()) else { continue };
            let times = self.here.entry((subnet, attached.wire)).or_default();
            let before = *times;
            *times = if there { before + 1 } else { before.saturating_sub(1) };
            if (before == 0) != (*times == 0) {
                moved.insert(subnet);
            }
            if *times == 0 {
                self.here.remove(&(subnet, attached.wire));
            }
        }
    }

    /// Where containers of this host have their addresses.
    pub(super) fn subnets(&self) -> Vec<IpNetwork> {
        self.here.keys().map(|(subnet, _)| *subnet).collect()
    }

    /// Where containers of other hosts have theirs, if that is routed here.
    pub(super) fn elsewhere(&self) -> &BTreeSet<IpNetwork> {
        &self.elsewhere
    }

    /// The same for the kernel. `sees_frames`: whether netfilter sees what bridges forward, in the subnet's family;
    /// `routed`: what of [`Ground::elsewhere`] there is a route to.
    pub(super) fn situation(
        &self,
        place: &Place,
        sees_frames: impl Fn(IpNetwork) -> bool,
        routed: &BTreeSet<IpNetwork>,
    ) -> Situation {
        let of = |wanted: fn(Wire) -> bool| {
            self.here.keys().filter(move |(_, wire)| wanted(*wire)).map(|(subnet, _)| *subnet)
        };
        let direct = of(|wire| wire == Wire::Own)
            .chain(of(|wire| wire == Wire::Bridge).filter(|subnet| !sees_frames(*subnet)));
        Situation {
            node: place.node.clone(),
            local: of(|wire| wire != Wire::Own).collect(),
            inside: of(|_| true)
                .chain(self.overlays.iter().flatten().copied())
                .chain(routed.iter().copied())
                .collect(),
            overlays: self.overlays.iter().cloned().collect(),
            direct: direct.collect(),
            ranges: place.ranges.clone(),
        }
    }
}

/// This host's attachments, and what others have.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    all: HashMap<AttachmentId, Attached>,
    /// By the names of their rows in the catalogue.
    networks: BTreeMap<String, Far>,
    ground: Ground,
    /// This host's subnets that came or went and nobody took note of yet.
    moved: BTreeSet<IpNetwork>,
}

/// The subnets of a network that is on other hosts.
#[derive(Debug)]
struct Far {
    subnets: Vec<IpNetwork>,
    is_overlay: bool,
}

/// The catalogue's name of a network that is one host's begins with the host's.
fn is_of(row: &str, node: &NodeName) -> bool {
    row.strip_prefix(node.as_str()).is_some_and(|rest| rest.starts_with('/'))
}

impl Attachments {
    /// Takes note of one; whether it is another than before.
    pub(super) fn see(&mut self, id: &AttachmentId, now: Option<&Attached>) -> bool {
        if self.all.get(id) == now {
            return false;
        }
        if let Some(before) = self.all.remove(id) {
            self.ground.count(&before, false, &mut self.moved);
        }
        if let Some(now) = now {
            self.ground.count(now, true, &mut self.moved);
            self.all.insert(id.clone(), now.clone());
        }
        true
    }

    /// Takes note of networks of the catalogue, by their rows, none of one that is gone; whether that changes the
    /// ground. This host's own are known by who is attached.
    pub(super) fn see_networks<'a>(
        &mut self,
        news: impl IntoIterator<Item = (&'a String, Option<&'a Network>)>,
        node: &NodeName,
    ) -> bool {
        for (row, network) in news.into_iter().filter(|(row, _)| !is_of(row, node)) {
            let Some(network) = network else {
                self.networks.remove(row);
                continue;
            };
            let subnets = network.subnets.iter().map(|one| one.subnet).collect();
            self.networks.insert(row.clone(), Far { subnets, is_overlay: network.is_shared() });
        }
        let of = |is_overlay| {
            let some = self.networks.values().filter(move |far| far.is_overlay == is_overlay);
            some.map(|far| far.subnets.clone())
        };
        let (overlays, elsewhere) = (of(true).collect(), of(false).flatten().collect());
        let is_other = (&overlays, &elsewhere) != (&self.ground.overlays, &self.ground.elsewhere);
        (self.ground.overlays, self.ground.elsewhere) = (overlays, elsewhere);
        is_other
    }

    /// This host's subnets that came or went since this was asked last.
    pub(super) fn take_moved(&mut self) -> BTreeSet<IpNetwork> {
        std::mem::take(&mut self.moved)
    }

    pub(super) fn get(&self, id: &AttachmentId) -> Option<&Attached> {
        self.all.get(id)
    }

    /// Whom one of the selectors means, on these networks.
    pub(super) fn selected<'a>(
        &'a self,
        selectors: &'a [&Selector],
        networks: &'a BTreeSet<NetworkName>,
    ) -> impl Iterator<Item = (&'a AttachmentId, IpAddr)> {
        let is_meant = |attached: &Attached, selector: &&Selector| {
            let has =
                |(key, value): (&String, &String)| attached.labels.contains(&(key.clone(), value.clone()));
            !selector.is_empty() && selector.0.iter().all(has)
        };
        let on_networks =
            self.all.iter().filter(|(id, _)| networks.is_empty() || networks.contains(&id.network));
        on_networks
            .filter(move |(_, attached)| selectors.iter().any(|selector| is_meant(attached, selector)))
            .flat_map(|(id, attached)| attached.addresses.iter().map(move |address| (id, address.ip())))
    }

    pub(super) fn ground(&self) -> &Ground {
        &self.ground
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use crate::services::CatalogueId;
    use crate::services::owner::Owner;

    use super::*;

    fn attached(address: &str, wire: Wire) -> Attached {
        Attached { addresses: vec![address.parse().unwrap()], wire, labels: Default::default() }
    }

    fn id(container: &str) -> AttachmentId {
        AttachmentId {
            network: "net".parse().unwrap(),
            container: container.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        }
    }

    #[test]
    fn who_answers_past_the_host_depends_on_the_wire() {
        let mut all = Attachments::default();
        let members = [
            ("a", "10.1.0.2/16", Wire::Host),
            ("b", "10.2.0.2/16", Wire::Bridge),
            ("c", "10.3.0.2/16", Wire::Own),
        ];
        for (name, address, wire) in members {
            assert!(all.see(&id(name), Some(&attached(address, wire))));
        }
        let subnets = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let owner = Owner::new(Path::new("/nonexistent"), CatalogueId::default());
        let place = Place { node: "n".parse().unwrap(), ranges: subnets(&["10.96.0.0/16"]), owner };
        let seen = all.ground().situation(&place, |_| true, &BTreeSet::new());
        assert_eq!(seen.ranges, place.ranges);
        assert_eq!(seen.local, subnets(&["10.1.0.0/16", "10.2.0.0/16"]));
        assert_eq!(seen.inside, subnets(&["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]));
        assert_eq!(seen.direct, subnets(&["10.3.0.0/16"]));
        let unseen = all.ground().situation(&place, |_| false, &BTreeSet::new());
        assert_eq!(unseen.direct, subnets(&["10.3.0.0/16", "10.2.0.0/16"]));
    }

    #[test]
    fn other_hosts_networks_are_inside_where_they_are_routed_and_overlays_always() {
        let (mut all, node) = (Attachments::default(), "n".parse().unwrap());
        let mut see = |row: &str, driver: &str, subnet: &str| {
            let network = json!({"name": "net", "driver": driver, "subnets": [{"subnet": subnet}]});
            let network: Network = serde_json::from_value(network).unwrap();
            all.see_networks([(&row.to_owned(), Some(&network))], &node)
        };
        assert!(see("net", "overlay", "10.4.0.0/16") && see("m/net", "bridge", "10.5.0.0/24"));
        assert!(!see("n/net", "bridge", "10.6.0.0/24"));
        let owner = Owner::new(Path::new("/nonexistent"), CatalogueId::default());
        let place = Place { node, ranges: Vec::new(), owner };
        let inside = |all: &Attachments, routed: &[&str]| {
            let routed = routed.iter().map(|subnet| subnet.parse().unwrap()).collect();
            let inside = all.ground().situation(&place, |_| true, &routed).inside;
            inside.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(inside(&all, &[]), ["10.4.0.0/16"]);
        assert_eq!(all.ground().elsewhere().len(), 1);
        assert_eq!(inside(&all, &["10.5.0.0/24"]), ["10.4.0.0/16", "10.5.0.0/24"]);
        assert!(all.see_networks([(&"net".to_owned(), None)], &place.node) && inside(&all, &[]).is_empty());
    }

    #[test]
    fn a_subnet_goes_with_its_last_container() {
        let (mut all, one) = (Attachments::default(), attached("10.1.0.2/16", Wire::Bridge));
        assert!(all.see(&id("a"), Some(&one)) && !all.see(&id("a"), Some(&one)));
        let before = all.ground().clone();
        assert_eq!(all.take_moved().len(), 1);
        assert!(all.see(&id("b"), Some(&attached("10.1.0.3/16", Wire::Bridge))) && all.see(&id("b"), None));
        assert!(all.take_moved().is_empty() && *all.ground() == before);
        assert!(all.see(&id("a"), None) && all.ground() == &Ground::default());
    }
}
