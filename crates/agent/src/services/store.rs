//! A store that may come later: the agent begins without it, and everybody holds it from the beginning.
//!
//! Until it is there, whatever is asked of it fails as when it does not answer. What it is then is the settings'.

use std::fs;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use zeugma_catalogue::{
    Embedded, Error, Health, Item, Key, Kind, LeaseId, Listing, Outcome, Revision, Store, Transaction, Watch,
    identified,
};

use crate::settings::Shared;

/// Before the next attempt to open it.
const RETRY: Duration = Duration::from_secs(1);

/// How long the first attempt is waited for by who asks something meanwhile; usually it is a moment.
const FIRST: Duration = Duration::from_secs(3);
/// What is said until the first attempt ends.
const OPENING: &str = "it is being opened";

/// The ID of the catalogue, once it is open: whoever hears of a change can read it.
pub(crate) type CatalogueId = Arc<OnceLock<String>>;

/// The store, once it is open.
pub(super) struct Late {
    name: String,
    id: CatalogueId,
    open: OnceLock<Arc<dyn Store>>,
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
            health,
        });
        tokio::spawn(keep_trying(shared, late.clone()));
        late
    }

    /// Returns once it is open.
    pub(super) async fn opened(&self) {
        let mut health = self.health.subscribe();
        // The sender is ours: it does not go before us.
        let _ = health.wait_for(|_| self.open.get().is_some()).await;
    }

    /// Which catalogue it is.
    pub(super) fn id(&self) -> CatalogueId {
        self.id.clone()
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

async fn keep_trying(shared: Shared, late: Arc<Late>) {
    let since = SystemTime::now();
    let (store, id) = loop {
        match identified_store(&shared).await {
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
    tracing::info!(catalogue = %shared, id, "the catalogue is open");
    let _ = late.id.set(id);
    let _ = late.open.set(store);
    loop {
        let now = health.borrow_and_update().clone();
        late.health.send_replace(now);
        if health.changed().await.is_err() {
            return;
        }
    }
}

async fn identified_store(shared: &Shared) -> Result<(Arc<dyn Store>, String), Error> {
    let store = opened(shared).await?;
    let id = identified(&store, &fresh_id()).await?;
    Ok((store, id))
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
        self.store().await?.list(kind, prefix).await
    }

    async fn watch(&self, kinds: &[Kind], after: Revision) -> Result<Watch, Error> {
        self.store().await?.watch(kinds, after).await
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
