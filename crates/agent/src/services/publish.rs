//! What other nodes have to know of this one: its containers that serve, as endpoints in the catalogue, under a lease
//! that ends some time after this agent does. Needed where nodes share a catalogue; on a host alone the journal is all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use zeugma_catalogue::{Error, Heartbeat, LeaseId, Outcome, Revision, Store, Table, Transaction};
use zeugma_model::{AttachmentId, Deployment, Endpoint, Origin, RegisteredEndpoint, Selector, ServiceName};
use zeugma_services::{Crew, Source};

use super::ground::Attachments;

/// Before a store that did not take something is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Before it is looked again whether another still has an address.
const LOOK: Duration = Duration::from_secs(10);
/// Keys in one transaction.
const AT_ONCE: usize = 100;

/// A service's containers of this node.
pub(super) type Published = (ServiceName, Vec<RegisteredEndpoint>);

/// Those of a service that are this node's, with the labels by which others know which set they belong to. While
/// sets are exchanged, also those whose turn has not come.
pub(super) fn published(
    deployment: &Deployment,
    crew: Crew,
    attachments: &Attachments,
) -> Vec<RegisteredEndpoint> {
    let service = &deployment.service;
    let mut selectors = vec![&service.selector];
    if let Some(rollout) = &deployment.rollout {
        selectors.push(&rollout.from);
        selectors.extend(rollout.through.iter().map(|overtaken| &overtaken.to));
    }
    let mut all: BTreeMap<IpAddr, (Endpoint, AttachmentId)> = BTreeMap::new();
    if deployment.rollout.is_some() {
        for (id, address) in attachments.selected(&selectors, &service.networks) {
            let (weight, state) = Default::default();
            all.insert(address, (Endpoint { address, node: None, weight, state }, id.clone()));
        }
    }
    for (address, member) in crew.members {
        if let Source::Here(id) = member.source {
            all.insert(address, (member.endpoint, id));
        }
    }
    let endpoint = |(endpoint, id): (Endpoint, AttachmentId)| {
        let labels = attachments.get(&id).map(|attached| told(&attached.labels, &selectors));
        let (labels, origin) = (labels.unwrap_or_default(), Origin::Container(id));
        RegisteredEndpoint { service: service.name.clone(), endpoint, labels, origin }
    };
    all.into_values().map(endpoint).collect()
}

/// Of the labels those that are asked for; of several values of one, the one that is.
fn told(labels: &BTreeSet<(String, String)>, selectors: &[&Selector]) -> BTreeMap<String, String> {
    let mut told = BTreeMap::new();
    for (key, value) in selectors.iter().flat_map(|selector| &selector.0) {
        let wanted = (key.clone(), value.clone());
        if labels.contains(&wanted) {
            told.insert(wanted.0, wanted.1);
        }
    }
    told
}

/// Starts to keep the catalogue as it is told. `ttl`: how long others believe in this node's containers when they hear
/// nothing of it any more.
pub(super) fn start(store: Arc<dyn Store>, ttl: Duration) -> mpsc::UnboundedSender<Published> {
    let (sender, told) = mpsc::unbounded_channel();
    tokio::spawn(Publisher::new(store, ttl).run(told));
    sender
}

struct Publisher {
    store: Arc<dyn Store>,
    wanted: BTreeMap<ServiceName, BTreeMap<String, RegisteredEndpoint>>,
    /// When it was written.
    written: BTreeMap<String, (RegisteredEndpoint, Revision)>,
    /// Those that are another's, and may become free.
    others: BTreeSet<String>,
    ttl: Duration,
    heartbeat: Option<Heartbeat>,
    is_told: bool,
}

impl Publisher {
    fn new(store: Arc<dyn Store>, ttl: Duration) -> Self {
        let (wanted, written, others) = Default::default();
        Self { store, wanted, written, others, ttl, heartbeat: None, is_told: false }
    }

    async fn run(mut self, mut told: mpsc::UnboundedReceiver<Published>) {
        loop {
            let is_lost = async {
                match &mut self.heartbeat {
                    Some(heartbeat) => heartbeat.lost().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                published = told.recv() => match published {
                    Some(published) => self.hear(published),
                    None => return,
                },
                () = sleep(LOOK), if !self.others.is_empty() => {}
                () = is_lost => {
                    // What was written went with it.
                    self.heartbeat = None;
                    self.written.clear();
                }
            }
            while let Ok(published) = told.try_recv() {
                self.hear(published);
            }
            while let Err(error) = self.write().await {
                if !std::mem::replace(&mut self.is_told, true) {
                    tracing::warn!(%error, "other nodes do not hear of this node's containers");
                }
                if matches!(error, Error::LeaseEnded { .. }) {
                    self.heartbeat = None;
                    self.written.clear();
                }
                sleep(RETRY).await;
                while let Ok(published) = told.try_recv() {
                    self.hear(published);
                }
            }
            self.is_told = false;
        }
    }

    fn hear(&mut self, (service, endpoints): Published) {
        let by_key = endpoints.into_iter().map(|endpoint| (endpoint.key(), endpoint)).collect();
        self.wanted.insert(service, by_key);
        self.wanted.retain(|_, endpoints| !endpoints.is_empty());
    }

    /// Brings the catalogue to what is wanted.
    async fn write(&mut self) -> Result<(), Error> {
        let wanted: BTreeMap<&String, &RegisteredEndpoint> = self.wanted.values().flatten().collect();
        let is_news = |key: &String, endpoint: &RegisteredEndpoint| {
            self.written.get(key).is_none_or(|(written, _)| written != endpoint)
        };
        let put: Vec<(String, RegisteredEndpoint)> = wanted
            .iter()
            .filter(|(key, endpoint)| is_news(key, endpoint))
            .map(|(key, endpoint)| ((*key).clone(), (*endpoint).clone()))
            .collect();
        let gone: Vec<String> =
            self.written.keys().filter(|key| !wanted.contains_key(key)).cloned().collect();
        self.others.retain(|key| wanted.contains_key(key));
        for some in put.chunks(AT_ONCE) {
            if !self.put(some).await? {
                // One of them is there already: of an agent before this one, or another node's.
                for one in some {
                    self.put_after_look(one).await?;
                }
            }
        }
        for some in gone.chunks(AT_ONCE) {
            if !self.delete(some).await? {
                for one in some {
                    // By now it is another's, or gone.
                    let _ = self.delete(std::slice::from_ref(one)).await?;
                }
            }
            some.iter().for_each(|key| drop(self.written.remove(key)));
        }
        Ok(())
    }

    /// Writes them if they are as this node left them; whether they were.
    async fn put(&mut self, some: &[(String, RegisteredEndpoint)]) -> Result<bool, Error> {
        let lease = self.lease().await?;
        let put = |transaction: Transaction, (key, endpoint): &(String, RegisteredEndpoint)| {
            let at = Table::<RegisteredEndpoint>::key(key)?;
            let transaction = match self.written.get(key) {
                Some((_, revision)) => transaction.expect(at, *revision),
                None => transaction.expect_absent(at),
            };
            Table::put(transaction, key, endpoint, Some(lease))
        };
        let transaction = some.iter().try_fold(Transaction::new(), put)?;
        let Outcome::Committed(revision) = self.store.commit(transaction).await? else { return Ok(false) };
        let written = some.iter().map(|(key, endpoint)| (key.clone(), (endpoint.clone(), revision)));
        self.written.extend(written);
        Ok(true)
    }

    /// Writes one that is not as this node knows it, unless it is another's: that one keeps it.
    async fn put_after_look(&mut self, one: &(String, RegisteredEndpoint)) -> Result<(), Error> {
        let (key, endpoint) = one;
        match Table::<RegisteredEndpoint>::new(self.store.clone()).get(key).await? {
            Some(row) if is_same_owner(&row.value, endpoint) => {
                self.written.insert(key.clone(), (row.value, row.revision));
            }
            found => {
                self.written.remove(key);
                if let Some(row) = found {
                    let node = row.value.endpoint.node.map_or("nobody".into(), |node| node.to_string());
                    if self.others.insert(key.clone()) {
                        tracing::warn!(endpoint = %key, %node, "another has this address: others do not hear of it");
                    }
                    return Ok(());
                }
            }
        }
        // When somebody was faster, the next attempt sees who.
        match self.put(std::slice::from_ref(one)).await? {
            true => self.others.remove(key),
            false => self.others.insert(key.clone()),
        };
        Ok(())
    }

    /// Deletes them if they are as this node left them; whether they were.
    async fn delete(&self, some: &[String]) -> Result<bool, Error> {
        let delete = |transaction: Transaction, key: &String| {
            let at = Table::<RegisteredEndpoint>::key(key)?;
            let Some((_, revision)) = self.written.get(key) else { return Ok::<_, Error>(transaction) };
            Ok(transaction.expect(at.clone(), *revision).delete(at))
        };
        let transaction = some.iter().try_fold(Transaction::new(), delete)?;
        Ok(matches!(self.store.commit(transaction).await?, Outcome::Committed(_)))
    }

    async fn lease(&mut self) -> Result<LeaseId, Error> {
        match &self.heartbeat {
            Some(heartbeat) => Ok(heartbeat.lease()),
            None => {
                let heartbeat = Heartbeat::start(self.store.clone(), self.ttl).await?;
                Ok(self.heartbeat.insert(heartbeat).lease())
            }
        }
    }
}

/// Whether the endpoint was written by the node that the other one is of.
fn is_same_owner(there: &RegisteredEndpoint, ours: &RegisteredEndpoint) -> bool {
    matches!(there.origin, Origin::Container(_)) && there.endpoint.node == ours.endpoint.node
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zeugma_catalogue::Embedded;

    use super::*;

    fn container(node: &str) -> Published {
        let id = json!({"network": "n", "container": node, "ifname": "eth0"});
        let endpoint = RegisteredEndpoint {
            service: "web".parse().unwrap(),
            endpoint: serde_json::from_value(json!({"address": "10.89.0.2", "node": node})).unwrap(),
            labels: BTreeMap::new(),
            origin: Origin::Container(serde_json::from_value(id).unwrap()),
        };
        (endpoint.service.clone(), vec![endpoint])
    }

    #[tokio::test]
    async fn an_address_that_another_node_has_stays_that_node_s() {
        let directory = tempfile::tempdir().unwrap();
        let store = Embedded::open(directory.path().join("catalogue.redb")).await.unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let publisher = || Publisher::new(store.clone(), Duration::from_secs(30));
        let (mut one, mut other) = (publisher(), publisher());
        let table = Table::<RegisteredEndpoint>::new(store.clone());
        let owner = async || {
            let row = table.get("web/10.89.0.2").await.unwrap();
            row.map(|row| row.value.endpoint.node.unwrap().to_string())
        };
        one.hear(container("a"));
        one.write().await.unwrap();
        other.hear(container("b"));
        other.write().await.unwrap();
        assert_eq!((owner().await.as_deref(), other.others.is_empty()), (Some("a"), false));
        other.hear(("web".parse().unwrap(), Vec::new()));
        other.write().await.unwrap();
        assert_eq!(owner().await.as_deref(), Some("a"));
        // An agent that begins anew finds what the one before wrote.
        let mut again = publisher();
        again.hear(container("a"));
        again.write().await.unwrap();
        again.hear(("web".parse().unwrap(), Vec::new()));
        again.write().await.unwrap();
        assert_eq!(owner().await, None);
        other.hear(container("b"));
        other.write().await.unwrap();
        assert_eq!(owner().await.as_deref(), Some("b"));
    }

    #[test]
    fn others_are_told_the_labels_that_are_asked_for() {
        let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let labels =
            [("zeugma.alias", "web"), ("zeugma.alias", "www"), ("app", "web"), ("rev", "2")].map(pair).into();
        let selector = |pairs: &[(&str, &str)]| Selector(pairs.iter().copied().map(pair).collect());
        let (old, new) = (selector(&[("app", "web"), ("rev", "1")]), selector(&[("zeugma.alias", "www")]));
        let expected = [("app", "web"), ("zeugma.alias", "www")].map(pair).into();
        assert_eq!(told(&labels, &[&old, &new]), expected);
    }
}
