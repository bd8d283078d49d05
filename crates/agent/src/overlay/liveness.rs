//! Says that this node lives, under a lease that ends some time after this agent does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use zeugma_catalogue::{Error, Heartbeat, Store, Table, Transaction};
use zeugma_model::{Alive, NodeName};

/// Before a store that did not take it is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How often the others were seen not to know of it, once this node may say anything.
pub(super) type Said = Option<u64>;

/// Keeps saying it as long as `said` is something, and again when that changes.
pub(super) async fn keep(
    store: Arc<dyn Store>,
    node: NodeName,
    ttl: Duration,
    mut said: watch::Receiver<Said>,
) {
    let mut is_told = false;
    while said.wait_for(Option::is_some).await.is_ok() {
        match begin(&store, &node, ttl).await {
            Ok(mut heartbeat) => {
                is_told = false;
                tokio::select! {
                    () = heartbeat.lost() => tracing::warn!("the others lost sight of this node: it is told again"),
                    // Whether it is over shows next.
                    _ = said.changed() => {}
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(%error, "the others do not hear that this node lives");
                }
                sleep(RETRY).await;
            }
        }
    }
}

async fn begin(store: &Arc<dyn Store>, node: &NodeName, ttl: Duration) -> Result<Heartbeat, Error> {
    let heartbeat = Heartbeat::start(store.clone(), ttl).await?;
    let alive = Alive { node: node.clone() };
    let put = Table::put(Transaction::new(), node.as_str(), &alive, Some(heartbeat.lease()))?;
    // It expects nothing, so nothing is in its way.
    let _ = store.commit(put).await?;
    Ok(heartbeat)
}
