//! What other nodes have to know of this one: its containers that serve, as endpoints in the catalogue, under a lease
//! that ends some time after this agent does. Needed where nodes share a catalogue; on a host alone the journal is all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use zeugma_catalogue::{Error, Heartbeat, LeaseId, Store, Table, Transaction};
use zeugma_model::{AttachmentId, Deployment, Endpoint, Origin, RegisteredEndpoint, Selector, ServiceName};
use zeugma_services::{Crew, Source};

use super::ground::Attachments;

/// How long others believe in this node's containers when they hear nothing of it any more.
const TTL: Duration = Duration::from_secs(30);
/// Before a store that did not take something is tried again.
const RETRY: Duration = Duration::from_secs(1);
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

/// Starts to keep the catalogue as it is told.
pub(super) fn start(store: Arc<dyn Store>) -> mpsc::UnboundedSender<Published> {
    let (sender, told) = mpsc::unbounded_channel();
    tokio::spawn(Publisher::new(store).run(told));
    sender
}

struct Publisher {
    store: Arc<dyn Store>,
    wanted: BTreeMap<ServiceName, BTreeMap<String, RegisteredEndpoint>>,
    written: BTreeMap<String, RegisteredEndpoint>,
    heartbeat: Option<Heartbeat>,
    is_told: bool,
}

impl Publisher {
    fn new(store: Arc<dyn Store>) -> Self {
        let (wanted, written) = Default::default();
        Self { store, wanted, written, heartbeat: None, is_told: false }
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
        let put: Vec<(String, RegisteredEndpoint)> = wanted
            .iter()
            .filter(|(key, endpoint)| self.written.get(**key) != Some(**endpoint))
            .map(|(key, endpoint)| ((*key).clone(), (*endpoint).clone()))
            .collect();
        let gone: Vec<String> =
            self.written.keys().filter(|key| !wanted.contains_key(key)).cloned().collect();
        for some in put.chunks(AT_ONCE) {
            let lease = self.lease().await?;
            let put = |transaction, (key, endpoint): &(String, RegisteredEndpoint)| {
                Table::put(transaction, key, endpoint, Some(lease))
            };
            let _ = self.store.commit(some.iter().try_fold(Transaction::new(), put)?).await?;
            self.written.extend(some.iter().cloned());
        }
        for some in gone.chunks(AT_ONCE) {
            let delete = |transaction: Transaction, key: &String| {
                Ok::<_, Error>(transaction.delete(Table::<RegisteredEndpoint>::key(key)?))
            };
            let _ = self.store.commit(some.iter().try_fold(Transaction::new(), delete)?).await?;
            some.iter().for_each(|key| drop(self.written.remove(key)));
        }
        Ok(())
    }

    async fn lease(&mut self) -> Result<LeaseId, Error> {
        match &self.heartbeat {
            Some(heartbeat) => Ok(heartbeat.lease()),
            None => {
                let heartbeat = Heartbeat::start(self.store.clone(), TTL).await?;
                Ok(self.heartbeat.insert(heartbeat).lease())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
