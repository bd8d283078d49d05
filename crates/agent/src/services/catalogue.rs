//! The catalogue's tables as this node uses them, and services written with the virtual addresses that they take.
//!
//! Who serves them is not decided here; an endpoint that is added is a plain row.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use zeugma_api::Written;
use zeugma_catalogue::{Error as Unread, Kind, Outcome, Revision, Row, Store, Table, TakenVip, Transaction};
use zeugma_model::{
    Deployment, Mode, Network, NodeName, Origin, RegisteredEndpoint, Service, ServiceName, Vips,
};
use zeugma_services::choose_vip;

use super::CatalogueId;

/// Writers that come in between before it is given up.
const ATTEMPTS: usize = 16;
/// Endpoints that are deleted in one transaction, beside a service and its addresses.
const ENDPOINTS_AT_ONCE: usize = 100;

/// What is shared with whoever reads or writes the catalogue.
#[derive(Clone)]
pub(crate) struct Catalogue {
    pub(crate) store: Arc<dyn Store>,
    /// Which catalogue it is.
    pub(crate) id: CatalogueId,
    /// Who this node is.
    pub(crate) node: NodeName,
    /// Where virtual addresses come from, at most one range of each family.
    pub(crate) service_ranges: Vec<IpNetwork>,
    /// Where the store is, as far as that was given in addresses: none that a network across hosts may have.
    pub(crate) store_at: Vec<IpAddr>,
}

/// Why a service was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("there is a service {0} already: update it, or remove it first")]
    Exists(ServiceName),
    #[error("there is no service {0}: `zeugma service ls` lists them")]
    Missing(ServiceName),
    #[error(
        "the virtual address {address} is service {owner}'s: take another one, or none for any that is free"
    )]
    VipTaken { address: IpAddr, owner: ServiceName },
    #[error(
        "the range {0} of virtual addresses is used up: remove services, or start the agents with a larger one"
    )]
    Full(IpNetwork),
    #[error("service {0} is being changed by others all the time: try again")]
    Contended(ServiceName),
    #[error(transparent)]
    Catalogue(#[from] zeugma_catalogue::Error),
}

impl Catalogue {
    /// Services by name.
    pub(crate) fn services(&self) -> Table<Deployment> {
        Table::new(self.store.clone())
    }

    /// Endpoints by service and address.
    pub(crate) fn endpoints(&self) -> Table<RegisteredEndpoint> {
        Table::new(self.store.clone())
    }

    /// Networks by name.
    pub(crate) fn networks(&self) -> Table<Network> {
        Table::new(self.store.clone())
    }

    /// Virtual addresses and whose they are.
    fn vips(&self) -> Table<TakenVip> {
        Table::new(self.store.clone())
    }

    /// Writes a service that is not there yet. One without virtual addresses gets one of each range.
    pub(crate) async fn create(&self, service: Service) -> Result<Written, WriteError> {
        let deployment = Deployment { service, previous: None, rollout: None };
        let name = deployment.service.name.clone();
        let key = Table::<Deployment>::key(name.as_str())?;
        // Whoever was added to one of that name before, and was left behind by an agent that ended, is not this one's.
        if let Some(rest) = self.clear(&name, || Transaction::new().expect_absent(key.clone())).await? {
            let _ = self.store.commit(rest).await?;
        }
        let exists = WriteError::Exists(name);
        self.write(None, deployment).await?.ok_or(exists)
    }

    /// Makes another of a service; `change` may be called several times, when others write it, too. The virtual
    /// addresses stay unless it gives others.
    pub(crate) async fn change<E: From<WriteError>>(
        &self,
        name: &ServiceName,
        change: impl Fn(Deployment) -> Result<Deployment, E>,
    ) -> Result<Written, E> {
        for _ in 0..ATTEMPTS {
            let before = self.deployment(name).await.map_err(E::from)?;
            let mut after = change(before.value.clone())?;
            inherit(&mut after, &before.value);
            if after == before.value {
                return Ok(written(&after, before.revision, true));
            }
            if let Some(written) = self.write(Some(before), after).await? {
                return Ok(written);
            }
        }
        Err(WriteError::Contended(name.clone()).into())
    }

    /// Writes a service in place of what it was at a revision; nothing when it is another by now.
    pub(super) async fn replace(&self, at: Revision, deployment: Deployment) -> Result<(), WriteError> {
        let before = self.deployment(&deployment.service.name).await?;
        if before.revision == at {
            self.write(Some(before), deployment).await?;
        }
        Ok(())
    }

    /// Takes a service away, with what was added to it and its virtual addresses. Returns when it was. Goes on to the
    /// end when nobody waits for it any more.
    pub(crate) async fn delete(&self, name: &ServiceName) -> Result<Revision, WriteError> {
        let (this, name) = (self.clone(), name.clone());
        let ended = tokio::spawn(async move { this.delete_whole(&name).await }).await;
        ended.unwrap_or_else(|_| Err(zeugma_catalogue::Error::Closed.into()))
    }

    async fn delete_whole(&self, name: &ServiceName) -> Result<Revision, WriteError> {
        for _ in 0..ATTEMPTS {
            let (written, vips) = self.held(name).await?;
            let key = Table::<Deployment>::key(name.as_str())?;
            let as_it_is = || Transaction::new().expect(key.clone(), written);
            let Some(last) = self.clear(name, as_it_is).await? else { continue };
            let mut transaction = last.delete(key.clone());
            for address in vips {
                transaction = transaction.delete(vip_key(address)?);
            }
            let Outcome::Committed(revision) = self.store.commit(transaction).await? else { continue };
            // One that was added meanwhile: without a service none can be any more.
            let nobody = || Transaction::new().expect_absent(key.clone());
            if let Some(rest) = self.clear(name, nobody).await? {
                let _ = self.store.commit(rest).await?;
            }
            return Ok(revision);
        }
        Err(WriteError::Contended(name.clone()))
    }

    /// Deletes what was added to a service, while that is as `condition` says; the last of it is left to the
    /// transaction that is returned. None: it no longer is so. Containers are taken away by their nodes.
    async fn clear(
        &self,
        name: &ServiceName,
        condition: impl Fn() -> Transaction,
    ) -> Result<Option<Transaction>, WriteError> {
        let rows = self.endpoints().list(&format!("{name}/")).await?;
        let added = rows.rows.into_iter().filter(|(_, row)| row.value.origin == Origin::Added);
        let keys: Vec<String> = added.map(|(key, _)| key).chain(rows.unreadable.into_keys()).collect();
        let delete = |transaction: Transaction, key: &String| {
            Ok::<_, WriteError>(transaction.delete(Table::<RegisteredEndpoint>::key(key)?))
        };
        let last = keys.len() - keys.len() % ENDPOINTS_AT_ONCE;
        for some in keys[..last].chunks(ENDPOINTS_AT_ONCE) {
            if let Outcome::Conflict { .. } =
                self.store.commit(some.iter().try_fold(condition(), delete)?).await?
            {
                return Ok(None);
            }
        }
        keys[last..].iter().try_fold(condition(), delete).map(Some)
    }

    async fn deployment(&self, name: &ServiceName) -> Result<Row<Deployment>, WriteError> {
        let row = self.services().get(name.as_str()).await?;
        row.ok_or_else(|| WriteError::Missing(name.clone()))
    }

    /// When a service was written, and the addresses that it has, even if nothing else of it can be read.
    async fn held(&self, name: &ServiceName) -> Result<(Revision, BTreeSet<IpAddr>), WriteError> {
        match self.deployment(name).await {
            Ok(row) => Ok((row.revision, vips_of(&row.value).collect())),
            Err(WriteError::Catalogue(Unread::Decode { key, .. } | Unread::Version { key, .. })) => {
                let item = self.store.get(&key).await?;
                let revision = item.ok_or_else(|| WriteError::Missing(name.clone()))?.revision;
                let vips = self.vips().list("").await?.rows.into_iter();
                let its = vips.filter(|(_, row)| row.value.service == *name);
                Ok((revision, its.filter_map(|(address, _)| address.parse().ok()).collect()))
            }
            Err(error) => Err(error),
        }
    }

    /// Writes it in place of `before`, with the addresses that it takes and gives back; none: another one was faster.
    async fn write(
        &self,
        before: Option<Row<Deployment>>,
        mut after: Deployment,
    ) -> Result<Option<Written>, WriteError> {
        let name = after.service.name.clone();
        let given = after.service.mode;
        let mut taken = BTreeSet::new();
        loop {
            if given == Mode::Vip(Vips::default()) {
                after.service.mode = Mode::Vip(self.chosen(&name, &taken)?);
            }
            let transaction = transaction(before.as_ref(), &after)?;
            match self.store.commit(transaction).await? {
                Outcome::Committed(revision) => return Ok(Some(written(&after, revision, false))),
                Outcome::Conflict { key, .. } if key.kind() == Kind::Vip => {
                    let Ok(address) = key.name().parse::<IpAddr>() else { return Ok(None) };
                    let owner = self.vips().get(key.name()).await?.map(|row| row.value.service);
                    match owner {
                        Some(owner) if given != Mode::Vip(Vips::default()) => {
                            return Err(WriteError::VipTaken { address, owner });
                        }
                        _ if taken.len() < ATTEMPTS => drop(taken.insert(address)),
                        // Few are free: rather than by trying they are found by looking.
                        _ => taken.extend(self.all_taken().await?),
                    }
                }
                Outcome::Conflict { .. } => return Ok(None),
            }
        }
    }

    async fn all_taken(&self) -> Result<BTreeSet<IpAddr>, WriteError> {
        let rows = self.vips().list("").await?.rows;
        Ok(rows.into_keys().filter_map(|address| address.parse().ok()).collect())
    }

    fn chosen(&self, name: &ServiceName, taken: &BTreeSet<IpAddr>) -> Result<Vips, WriteError> {
        let mut vips = Vips::default();
        for range in &self.service_ranges {
            let address = choose_vip(*range, name.as_str(), |address| taken.contains(&address));
            match address.ok_or(WriteError::Full(*range))? {
                IpAddr::V4(v4) => vips.v4 = Some(v4),
                IpAddr::V6(v6) => vips.v6 = Some(v6),
            }
        }
        Ok(vips)
    }
}

/// Only if nothing changed meanwhile, and only if nobody has the new addresses.
fn transaction(before: Option<&Row<Deployment>>, after: &Deployment) -> Result<Transaction, WriteError> {
    let service = &after.service.name;
    let key = Table::<Deployment>::key(service.as_str())?;
    let mut transaction = match before {
        None => Transaction::new().expect_absent(key),
        Some(row) => Transaction::new().expect(key, row.revision),
    };
    let had: BTreeSet<IpAddr> = before.into_iter().flat_map(|row| vips_of(&row.value)).collect();
    let has: BTreeSet<IpAddr> = vips_of(after).collect();
    for address in had.difference(&has) {
        transaction = transaction.delete(vip_key(*address)?);
    }
    for address in has.difference(&had) {
        transaction = transaction.expect_absent(vip_key(*address)?);
        let taken = TakenVip { service: service.clone() };
        transaction = Table::put(transaction, &address.to_string(), &taken, None)?;
    }
    Ok(Table::put(transaction, service.as_str(), after, None)?)
}

fn vip_key(address: IpAddr) -> Result<zeugma_catalogue::Key, zeugma_catalogue::Error> {
    Table::<TakenVip>::key(&address.to_string())
}

/// Where none are given, those that it has stay.
fn inherit(after: &mut Deployment, before: &Deployment) {
    if let (Mode::Vip(none), Mode::Vip(vips)) = (after.service.mode, before.service.mode)
        && none == Vips::default()
    {
        after.service.mode = Mode::Vip(vips);
    }
}

/// Those of the service as it was are its own still: a rollback returns to them.
fn vips_of(deployment: &Deployment) -> impl Iterator<Item = IpAddr> {
    let of = |service: &Service| match service.mode {
        Mode::Vip(vips) => vips,
        Mode::Dnsrr => Vips::default(),
    };
    let previous = deployment.previous.as_deref().map(of).unwrap_or_default();
    of(&deployment.service).iter().chain(previous.iter())
}

fn written(deployment: &Deployment, revision: Revision, unchanged: bool) -> Written {
    let vips = match deployment.service.mode {
        Mode::Vip(vips) => vips.iter().collect(),
        Mode::Dnsrr => Vec::new(),
    };
    Written {
        service: deployment.service.name.clone(),
        revision: revision.0,
        unchanged,
        vips,
        problems: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zeugma_catalogue::Embedded;

    use super::*;

    async fn catalogue() -> (tempfile::TempDir, Catalogue) {
        let directory = tempfile::tempdir().unwrap();
        let store = Embedded::open(directory.path().join("catalogue.redb")).await.unwrap();
        let node = "n".parse().unwrap();
        let (id, service_ranges) = (CatalogueId::default(), Vec::new());
        (directory, Catalogue { store: Arc::new(store), node, service_ranges, id, store_at: Vec::new() })
    }

    async fn add(catalogue: &Catalogue, address: IpAddr) {
        let endpoint = RegisteredEndpoint {
            service: "web".parse().unwrap(),
            endpoint: serde_json::from_value(json!({"address": address})).unwrap(),
            labels: Default::default(),
            origin: Origin::Added,
        };
        let put = Table::put(Transaction::new(), &endpoint.key(), &endpoint, None).unwrap();
        assert!(matches!(catalogue.store.commit(put).await.unwrap(), Outcome::Committed(_)));
    }

    #[tokio::test]
    async fn nobody_is_left_behind_by_a_service_that_goes_or_found_by_one_that_comes() {
        let (_directory, catalogue) = catalogue().await;
        let web: Service = serde_json::from_value(json!({"name": "web", "ports": [{"port": 80}]})).unwrap();
        let left = async || catalogue.endpoints().list("").await.unwrap().rows.len();
        for last in 0..250 {
            add(&catalogue, IpAddr::from([192, 0, 2, last])).await;
        }
        catalogue.create(web.clone()).await.unwrap();
        assert_eq!(left().await, 0);
        for last in 0..250 {
            add(&catalogue, IpAddr::from([192, 0, 2, last])).await;
        }
        catalogue.create(web.clone()).await.unwrap_err();
        assert_eq!(left().await, 250);
        catalogue.delete(&web.name).await.unwrap();
        assert_eq!(left().await, 0);
        assert!(matches!(catalogue.delete(&web.name).await, Err(WriteError::Missing(_))));
    }
}
