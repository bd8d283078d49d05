//! The subnets of this host's containers, and what becomes of packets within them. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_model::{AttachmentId, NetworkName, Selector};
use zeugma_services::Situation;

use super::attached::{Attached, Wire};
use super::programming::Place;

/// How subnets are reached, as far as the journal tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ground(BTreeMap<(IpNetwork, Wire), usize>);

impl Ground {
    /// One more attachment with these, or one less.
    fn count(&mut self, attached: &Attached, there: bool) {
        for address in &attached.addresses {
            let Ok(subnet) = IpNetwork::new(address.network(), address.prefix()) else { continue };
            let times = self.0.entry((subnet, attached.wire)).or_default();
            *times = if there { *times + 1 } else { times.saturating_sub(1) };
            if *times == 0 {
                self.0.remove(&(subnet, attached.wire));
            }
        }
    }

    /// Where containers have their addresses.
    pub(super) fn subnets(&self) -> Vec<IpNetwork> {
        self.0.keys().map(|(subnet, _)| *subnet).collect()
    }

    /// The same for the kernel. `sees_frames`: whether netfilter sees what bridges forward, in the subnet's family.
    pub(super) fn situation(&self, place: &Place, sees_frames: impl Fn(IpNetwork) -> bool) -> Situation {
        let of = |wanted: fn(Wire) -> bool| {
            self.0.keys().filter(move |(_, wire)| wanted(*wire)).map(|(subnet, _)| *subnet)
        };
        let direct = of(|wire| wire == Wire::Own)
            .chain(of(|wire| wire == Wire::Bridge).filter(|subnet| !sees_frames(*subnet)));
        Situation {
            node: place.node.clone(),
            local: of(|wire| wire != Wire::Own).collect(),
            inside: of(|_| true).collect(),
            direct: direct.collect(),
            ranges: place.ranges.clone(),
        }
    }
}

/// This host's attachments.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    all: HashMap<AttachmentId, Attached>,
    ground: Ground,
}

impl Attachments {
    /// Takes note of one; whether it is another than before.
    pub(super) fn see(&mut self, id: &AttachmentId, now: Option<&Attached>) -> bool {
        if self.all.get(id) == now {
            return false;
        }
        if let Some(before) = self.all.remove(id) {
            self.ground.count(&before, false);
        }
        if let Some(now) = now {
            self.ground.count(now, true);
            self.all.insert(id.clone(), now.clone());
        }
        true
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
        let seen = all.ground().situation(&place, |_| true);
        assert_eq!(seen.ranges, place.ranges);
        assert_eq!(seen.local, subnets(&["10.1.0.0/16", "10.2.0.0/16"]));
        assert_eq!(seen.inside, subnets(&["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]));
        assert_eq!(seen.direct, subnets(&["10.3.0.0/16"]));
        let unseen = all.ground().situation(&place, |_| false);
        assert_eq!(unseen.direct, subnets(&["10.3.0.0/16", "10.2.0.0/16"]));
    }

    #[test]
    fn a_subnet_goes_with_its_last_container() {
        let (mut all, one) = (Attachments::default(), attached("10.1.0.2/16", Wire::Bridge));
        assert!(all.see(&id("a"), Some(&one)) && !all.see(&id("a"), Some(&one)));
        let before = all.ground().clone();
        assert!(all.see(&id("b"), Some(&attached("10.1.0.3/16", Wire::Bridge))) && all.see(&id("b"), None));
        assert_eq!(all.ground(), &before);
        assert!(all.see(&id("a"), None) && all.ground() == &Ground::default());
    }
}
