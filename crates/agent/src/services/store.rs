//! A store that may come later: the agent begins without it, and everybody holds it from the beginning.
//!
//! Until it is there, whatever is asked of it fails as when it does not answer; but what is followed is told as the agent
//! before this one knew it, where there is a memory. What it is then is the settings'.

use std::fs;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::{OnceCell, watch};
use tokio::time::{sleep, timeout};
use zeugma_catalogue::{
    Embedded, Error, Health, Item, Key, Kind, LeaseId, Listing, Memory, Outcome, Revision, Store,
    Transaction, Watch, identified,
};

use super::CatalogueId;
use crate::settings::Shared;

/// Before the next attempt to open it.
const RETRY: Duration = Duration::from_secs(1);

/// How long the first attempt is waited for by who asks something meanwhile; usually it is a moment.
const FIRST: Duration = Duration::from_secs(3);
/// What is said until the first attempt ends.
const OPENING: &str = "it is being opened";

/// The store, once it is open.
pub(super) struct Late {
    name: String,
    id: CatalogueId,
    open: OnceLock<Arc<dyn Store>>,
    /// None without one; looked for before anything is asked.
    memory: OnceCell<Option<Memory>>,
    shared: Shared,
    health: watch::Sender<Health>,
}

impl Late {
    /// Begins to open it; tries again until it succeeds.
    pub(super) fn open(shared: Shared) -> Arc<Self> {
        let health = watch::Sender::new(degraded(OPENING.into(), SystemTime::now()));
        let late = Arc::new(Self {
            name: shared.to_string(),
            id: CatalogueId::default(),
            open: OnceLock::new(),
            memory: OnceCell::new(),
            shared,
            health,
        });
        tokio::spawn(keep_trying(late.clone()));
        late
    }

    /// Which catalogue it is.
    pub(super) fn id(&self) -> CatalogueId {
        self.id.clone()
    }

    async fn memory(&self) -> Option<&Memory> {
        let remember = async || match &self.shared {
            Shared::File(_) => None,
            Shared::Etcd(etcd) => {
                let memory = Memory::open(&etcd.memory).await;
                let path = etcd.memory.display();
                memory
                    .inspect_err(
                        |error| tracing::warn!(%error, %path, "an outage at the next start will be felt"),
                    )
                    .ok()
            }
        };
        self.memory.get_or_init(remember).await.as_ref()
    }

    /// What is opened is what is remembered, when that was told already.
    async fn take(&self, store: Arc<dyn Store>, id: String) -> Result<(), Error> {
        self.id.get_or_init(|| id.clone());
        if !self.id.is(Some(&id)) {
            return Err(self.replaced());
        }
        if let Some(memory) = self.memory().await {
            memory.begin(id).await?;
        }
        let _ = self.open.set(store);
        Ok(())
    }

    /// All of a kind, unless it is another catalogue that answers by now: nobody who follows a table takes that one's for
    /// this one's.
    async fn listed(&self, kind: Kind, prefix: &str) -> Result<Listing, Error> {
        let store = self.store().await?;
        // What was seen to be another one is not listed again and again.
        let was_another = self.id.other().borrow().is_some();
        if was_another && !self.id.is_in(store).await? {
            return Err(self.replaced());
        }
        let listing = store.list(kind, prefix).await?;
        match self.id.is_in(store).await? {
            true => Ok(listing),
            false => Err(self.replaced()),
        }
    }

    /// Another one answers.
    fn replaced(&self) -> Error {
        let (known, other) = (self.id.get().map_or("", String::as_str), self.id.other());
        let other = other.borrow().clone().filter(|other| !other.is_empty());
        let other = other.as_deref().unwrap_or("without an ID");
        Error::Unavailable {
            subject: format!(
                "this catalogue ({other}) is not the one that was known ({known}): restart the agent"
            ),
            store: self.name.clone(),
            source: "it is another".into(),
        }
    }

    async fn store(&self) -> Result<&Arc<dyn Store>, Error> {
        if self.open.get().is_none() {
            let is_tried =
                |health: &Health| !matches!(health, Health::Degraded { why, .. } if why == OPENING);
            // Whatever came of it is told below.
            let _ = timeout(FIRST, self.health.subscribe().wait_for(is_tried)).await;
        }
        self.open.get().ok_or_else(|| {
            let why = match &*self.health.borrow() {
                Health::Degraded { why, .. } => why.clone(),
                Health::Healthy => String::new(),
            };
            Error::Unavailable {
                subject: "the catalogue is not open".into(),
                store: self.name.clone(),
                source: why.into(),
            }
        })
    }
}

fn degraded(why: String, since: SystemTime) -> Health {
    Health::Degraded { since, why }
}

async fn keep_trying(late: Arc<Late>) {
    let since = SystemTime::now();
    let store = loop {
        match opened_as(&late).await {
            Ok(opened) => break opened,
            Err(error) => {
                let why = error.to_string();
                let is_news = late.health.send_replace(degraded(why.clone(), since)) != degraded(why, since);
                if is_news {
                    tracing::error!(%error, "services stay as they are until the catalogue can be opened");
                }
            }
        }
        sleep(RETRY).await;
    };
    let mut health = store.health();
    tracing::info!(catalogue = late.name, id = late.id.get(), "the catalogue is open");
    loop {
        let now = health.borrow_and_update().clone();
        late.health.send_replace(now);
        if health.changed().await.is_err() {
            return;
        }
    }
}

async fn opened_as(late: &Late) -> Result<Arc<dyn Store>, Error> {
    let store = opened(&late.shared).await?;
    let id = identified(&store, &fresh_id()).await?;
    late.take(store.clone(), id).await?;
    Ok(store)
}

/// Random, from the kernel.
fn fresh_id() -> String {
    let drawn = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    match drawn.trim() {
        // Without /proc, which nothing else does without either.
        "" => format!("{:?}", SystemTime::now()),
        drawn => drawn.to_owned(),
    }
}

async fn opened(shared: &Shared) -> Result<Arc<dyn Store>, Error> {
    match shared {
        Shared::File(path) => Ok(Arc::new(Embedded::open(path).await?)),
        #[cfg(feature = "etcd")]
        Shared::Etcd(etcd) => Ok(Arc::new(zeugma_catalogue::etcd::Etcd::open(etcd.read()?)?)),
        #[cfg(not(feature = "etcd"))]
        Shared::Etcd(_) => {
            let why = "this zeugma was built without etcd: take one built with the feature `etcd`".into();
            Err(Error::Settings { option: "--etcd", why })
        }
    }
}

#[async_trait]
impl Store for Late {
    async fn get(&self, key: &Key) -> Result<Option<Item>, Error> {
        self.store().await?.get(key).await
    }

    async fn list(&self, kind: Kind, prefix: &str) -> Result<Listing, Error> {
        let answer = self.listed(kind, prefix).await;
        let Some(memory) = self.memory().await.filter(|_| prefix.is_empty()) else { return answer };
        let listing = memory.listed(kind, answer).await?;
        if listing.is_recalled
            && let Some(id) = memory.identity()
        {
            self.id.get_or_init(|| id);
        }
        Ok(listing)
    }

    async fn watch(&self, kinds: &[Kind], after: Revision) -> Result<Watch, Error> {
        let Some(memory) = self.memory().await else { return self.store().await?.watch(kinds, after).await };
        match memory.until_answered(kinds, self.health()) {
            Some(watch) => Ok(watch),
            None => Ok(memory.watched(self.store().await?.watch(kinds, after).await?)),
        }
    }

    async fn commit(&self, transaction: Transaction) -> Result<Outcome, Error> {
        self.store().await?.commit(transaction).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        self.store().await?.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), Error> {
        self.store().await?.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.store().await?.revoke(lease).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_catalogue_is_not_listed_in_the_place_of_this_one() {
        let root = tempfile::tempdir().unwrap();
        let late = Late::open(Shared::File(root.path().join("catalogue.redb")));
        late.list(Kind::Node, "").await.unwrap();
        let whose = Key::new(Kind::Identity, "catalogue").unwrap();
        let own = late.get(&whose).await.unwrap().unwrap().value;
        let other = String::from_utf8(own.clone()).unwrap().replace(late.id.get().unwrap(), "another");
        let put = |value: Vec<u8>| late.commit(Transaction::new().put(whose.clone(), value));
        let _ = put(other.into_bytes()).await.unwrap();
        let told = late.list(Kind::Node, "").await.unwrap_err().to_string();
        assert!(told.contains("this catalogue (another) is not the one that was known"), "{told}");
        assert_eq!(late.id.other().borrow().as_deref(), Some("another"));
        let _ = put(own).await.unwrap();
        late.list(Kind::Node, "").await.unwrap();
        assert_eq!(*late.id.other().borrow(), None);
    }
}
