//! Which catalogue it is. One that is empty because it is new is told by it from one that everything was deleted from.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Error, Kind, Outcome, Store, Stored, Table, Transaction};

/// There is one.
const NAME: &str = "catalogue";

/// Written once, by whoever opens a new catalogue first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    id: String,
}

impl Stored for Identity {
    const KIND: Kind = Kind::Identity;
}

/// Where it is.
#[cfg(feature = "etcd")]
pub(crate) fn key() -> Result<crate::Key, Error> {
    Table::<Identity>::key(NAME)
}

/// The ID of the catalogue in `store`; none when it has none yet.
///
/// # Errors
/// Those of [`Table::get`].
pub async fn identity(store: &Arc<dyn Store>) -> Result<Option<String>, Error> {
    let row = Table::<Identity>::new(store.clone()).get(NAME).await?;
    Ok(row.map(|row| row.value.id))
}

/// The same; a catalogue without an ID gets `fresh`, which nothing else may have.
///
/// # Errors
/// Those of [`Table::get`] and [`Store::commit`].
pub async fn identified(store: &Arc<dyn Store>, fresh: &str) -> Result<String, Error> {
    loop {
        if let Some(id) = identity(store).await? {
            return Ok(id);
        }
        let new = Transaction::new().expect_absent(Table::<Identity>::key(NAME)?);
        let new = Table::put(new, NAME, &Identity { id: fresh.to_owned() }, None)?;
        if let Outcome::Committed(_) = store.commit(new).await? {
            return Ok(fresh.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Embedded;

    #[tokio::test]
    async fn the_first_id_stays() {
        let root = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Embedded::open(root.path().join("a.redb")).await.unwrap());
        assert_eq!(identity(&store).await.unwrap(), None);
        assert_eq!(identified(&store, "one").await.unwrap(), "one");
        assert_eq!(identified(&store, "two").await.unwrap(), "one");
        assert_eq!(identity(&store).await.unwrap().as_deref(), Some("one"));
    }
}
