//! Networks that are gone from the catalogue, or others of the same name by now, while containers of this host are on them
//! as they were.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;

use zeugma_catalogue::Difference;
use zeugma_model::{Network, NetworkName};

use super::known::Known;

/// All of them. Their tunnels and routes go with their last container.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    pub(super) names: BTreeSet<NetworkName>,
    /// Those that take their place.
    coming: BTreeMap<NetworkName, Network>,
    /// What the agent before this one went by, until anything is heard of networks.
    before: BTreeMap<NetworkName, Network>,
    /// Of those the ones that have containers, and that nothing was heard of yet.
    unheard: BTreeSet<NetworkName>,
}

impl Leaving {
    /// Of an agent after one that went by these.
    pub(super) fn after(before: BTreeMap<NetworkName, Network>) -> Self {
        Self { before, ..Self::default() }
    }

    /// Networks that were there before this agent are known as they were, for as long as they have containers: what the
    /// catalogue does not have of them once it answers itself was deleted while nobody listened.
    pub(super) fn recollect(
        &mut self,
        difference: &mut Difference<Network>,
        is_recalled: bool,
        known: &mut Known,
        has_containers: impl Fn(&NetworkName) -> bool,
    ) {
        let before = take(&mut self.before).into_iter().filter(|(name, _)| has_containers(name));
        for (name, network) in before {
            self.unheard.insert(name.clone());
            known.networks.insert(name, network);
        }
        let Difference { put, deleted, unreadable, .. } = difference;
        self.unheard.retain(|name| {
            let row = name.as_str();
            !put.contains_key(row) && !unreadable.contains_key(row) && !deleted.contains(row)
        });
        if !is_recalled {
            deleted.extend(take(&mut self.unheard).iter().map(ToString::to_string));
        }
    }

    /// Keeps back from `difference` what cannot be yet.
    pub(super) fn keep_back(
        &mut self,
        difference: &mut Difference<Network>,
        known: &Known,
        has_containers: impl Fn(&NetworkName) -> bool,
    ) {
        for name in difference.deleted.iter().filter_map(|row| row.parse().ok()).collect::<Vec<NetworkName>>()
        {
            self.coming.remove(&name);
            if has_containers(&name) {
                difference.deleted.remove(name.as_str());
                self.names.insert(name);
            }
        }
        for name in difference.put.keys().filter_map(|row| row.parse().ok()).collect::<Vec<NetworkName>>() {
            let is_other = |new: &Network| known.networks.get(&name).is_some_and(|old| is_other(old, new));
            let other = difference.put.get(name.as_str()).map(|row| &row.value).filter(|new| is_other(new));
            match other.filter(|_| has_containers(&name)).cloned() {
                Some(new) => {
                    difference.put.remove(name.as_str());
                    self.names.insert(name.clone());
                    self.coming.insert(name, new);
                }
                None => {
                    self.names.remove(&name);
                    self.coming.remove(&name);
                }
            }
        }
    }

    /// Lets those go that have no containers any more; whether there were any.
    pub(super) fn let_go(
        &mut self,
        known: &mut Known,
        has_containers: impl Fn(&NetworkName) -> bool,
    ) -> bool {
        let gone: Vec<NetworkName> =
            self.names.iter().filter(|name| !has_containers(name)).cloned().collect();
        for name in &gone {
            self.names.remove(name);
            known.networks.remove(name);
            let coming = self.coming.remove(name).filter(Network::is_shared);
            known.networks.extend(coming.map(|network| (name.clone(), network)));
        }
        !gone.is_empty()
    }

    /// What is to be done about those in whose place another one comes, a line each.
    pub(super) fn told(&self) -> impl Iterator<Item = String> {
        self.coming.keys().map(|name| {
            format!(
                "network {name} was removed and created again, and containers of this host are on it as it was: they \
                 reach no others; remove them, or zeugma network disconnect {name} CONTAINER"
            )
        })
    }
}

/// A network is never changed: with other addresses or options it is another one.
fn is_other(old: &Network, new: &Network) -> bool {
    old.subnets != new.subnets || old.overlay() != new.overlay()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zeugma_catalogue::{Revision, Row};

    use super::*;

    fn put(subnet: &str) -> Difference<Network> {
        let network = json!({"name": "front", "driver": "overlay", "subnets": [{"subnet": subnet}]});
        let row = Row { value: serde_json::from_value(network).unwrap(), revision: Revision(1), lease: None };
        let (deleted, unreadable) = (BTreeSet::new(), BTreeMap::new());
        Difference {
            put: BTreeMap::from([("front".into(), row)]),
            deleted,
            unreadable,
            revision: Revision(1),
        }
    }

    #[test]
    fn another_network_of_the_name_waits_until_the_last_container_is_gone() {
        let (mut leaving, mut known) = (Leaving::default(), Known::default());
        let subnet = |known: &Known| {
            known.networks.values().map(|one| one.subnets[0].subnet.to_string()).collect::<String>()
        };
        let hear = |leaving: &mut Leaving, known: &mut Known, mut difference| {
            leaving.keep_back(&mut difference, known, |_| true);
            known.hear_networks(difference);
        };
        hear(&mut leaving, &mut known, put("10.1.0.0/16"));
        hear(&mut leaving, &mut known, put("10.1.0.0/16"));
        assert!(leaving.names.is_empty());
        hear(&mut leaving, &mut known, put("10.2.0.0/16"));
        assert!(!leaving.let_go(&mut known, |_| true));
        assert_eq!((subnet(&known).as_str(), leaving.told().count()), ("10.1.0.0/16", 1));
        assert!(leaving.let_go(&mut known, |_| false));
        assert_eq!((subnet(&known).as_str(), leaving.told().count()), ("10.2.0.0/16", 0));
    }

    fn nothing() -> Difference<Network> {
        Difference { put: BTreeMap::new(), ..put("10.1.0.0/16") }
    }

    /// An agent that starts after one that went by 10.1.0.0/16, once it heard all that it is told.
    fn restarted(has_containers: bool, told: Vec<(Difference<Network>, bool)>) -> (Leaving, Known) {
        let (mut before, mut known) = (Known::default(), Known::default());
        before.hear_networks(put("10.1.0.0/16"));
        let mut leaving = Leaving::after(before.networks);
        for (mut difference, is_recalled) in told {
            leaving.recollect(&mut difference, is_recalled, &mut known, |_| has_containers);
            leaving.keep_back(&mut difference, &known, |_| has_containers);
            known.hear_networks(difference);
        }
        (leaving, known)
    }

    #[test]
    fn a_network_that_was_removed_while_no_agent_ran_stays_for_its_containers() {
        let check = |has_containers, told, is_known: bool, is_leaving: bool, coming: usize| {
            let (leaving, known) = restarted(has_containers, told);
            let is_old = |network: &Network| network.subnets[0].subnet.to_string() == "10.1.0.0/16";
            assert_eq!(known.networks.values().any(is_old), is_known);
            assert_eq!((leaving.names.len(), leaving.told().count()), (is_leaving.into(), coming));
        };
        check(true, vec![(nothing(), false)], true, true, 0);
        check(false, vec![(nothing(), false)], false, false, 0);
        check(true, vec![(put("10.1.0.0/16"), false)], true, false, 0);
        check(true, vec![(put("10.2.0.0/16"), false)], true, true, 1);
        check(false, vec![(put("10.2.0.0/16"), false)], false, false, 0);
        // What is recalled may be older than the network; what comes after it tells.
        check(true, vec![(nothing(), true)], true, false, 0);
        check(true, vec![(nothing(), true), (nothing(), false)], true, true, 0);
        check(true, vec![(nothing(), true), (put("10.1.0.0/16"), false)], true, false, 0);
    }

    #[test]
    fn a_network_that_was_removed_while_no_agent_ran_goes_with_its_last_container() {
        let (mut leaving, mut known) = restarted(true, vec![(nothing(), false)]);
        assert!(!leaving.let_go(&mut known, |_| true));
        assert!(leaving.let_go(&mut known, |_| false) && known.networks.is_empty());
    }
}
