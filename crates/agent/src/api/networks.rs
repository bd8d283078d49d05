//! What is answered about networks. Shapes and paths are `zeugma-api`'s; files are the follower's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use ipnetwork::IpNetwork;
use serde::Deserialize;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use zeugma_api::{NETWORK, NETWORKS, NetworkRemoved, NetworkView, NetworkWritten, REVISION};
use zeugma_catalogue::{Kind, LastNetwork, Outcome, Revision, Row, Table, Transaction};
use zeugma_journal::Journal;
use zeugma_model::{Block, Network, NetworkName, Node, NodeName, overlap};
use zeugma_plan::network::{completed, ensure_apart, numbered};

use super::services::leave_to_wait;
use super::{Refused, refused};
use crate::networks::{Networks, name_on, row_name, row_of, taken};

/// How long a question for news is kept.
const NEWS: Duration = Duration::from_secs(30);
/// How often a change is tried that others come before.
const ATTEMPTS: u32 = 32;

/// What is asked at the paths of networks.
pub(crate) fn router(networks: Networks) -> Router {
    Router::new()
        .route(NETWORKS, get(list))
        .route(NETWORK, get(one).put(create).delete(remove))
        .with_state(networks)
}

#[derive(Deserialize)]
struct After {
    after: Option<u64>,
}

fn internal(error: impl ToString) -> Refused {
    refused(StatusCode::INTERNAL_SERVER_ERROR, error)
}

fn unavailable(error: impl ToString) -> Refused {
    refused(StatusCode::SERVICE_UNAVAILABLE, error)
}

fn named(name: Result<Path<NetworkName>, PathRejection>) -> Result<NetworkName, Refused> {
    name.map(|Path(name)| name).map_err(|wrong| refused(wrong.status(), wrong.body_text()))
}

async fn list(
    State(networks): State<Networks>,
    after: Result<Query<After>, QueryRejection>,
) -> Result<Response, Refused> {
    let Query(After { after }) = after.map_err(|wrong| refused(wrong.status(), wrong.body_text()))?;
    if let Some(after) = after {
        let _permit = leave_to_wait()?;
        let watch = networks.catalogue.store.watch(&[Kind::Network], Revision(after)).await;
        // Whatever it says, or that it says nothing: the list is what is answered.
        let _ = timeout(NEWS, watch.map_err(unavailable)?.next()).await;
    }
    let found = networks.catalogue.networks().list("").await.map_err(unavailable)?;
    let here = found.rows.into_iter().filter(|(row, _)| name_on(&networks.catalogue.node, row).is_some());
    let views: Vec<NetworkView> = here.map(|(_, row)| view(&networks, row)).collect();
    Ok(([(REVISION, found.revision.to_string())], Json(views)).into_response())
}

fn view(networks: &Networks, row: Row<Network>) -> NetworkView {
    let problems = networks.problems().remove(&row.value.name).into_iter().collect();
    NetworkView { network: row.value, revision: row.revision.0, problems }
}

async fn one(
    State(networks): State<Networks>,
    name: Result<Path<NetworkName>, PathRejection>,
) -> Result<Json<NetworkView>, Refused> {
    let row = found(&networks, &named(name)?).await?;
    Ok(Json(view(&networks, row)))
}

async fn found(networks: &Networks, name: &NetworkName) -> Result<Row<Network>, Refused> {
    let table = networks.catalogue.networks();
    let own = table.get(&row_name(&networks.catalogue.node, name.as_str())).await.map_err(unavailable)?;
    let row = match own {
        Some(row) => Some(row),
        None => table.get(name.as_str()).await.map_err(unavailable)?,
    };
    row.ok_or_else(|| refused(StatusCode::NOT_FOUND, format!("there is no network {name}")))
}

async fn create(
    State(networks): State<Networks>,
    name: Result<Path<NetworkName>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<NetworkWritten>, Refused> {
    let (name, body) = (named(name)?, body.map_err(|wrong| refused(wrong.status(), wrong.body_text()))?);
    let wanted: Network =
        serde_json::from_slice(&body).map_err(|wrong| refused(StatusCode::BAD_REQUEST, wrong))?;
    if wanted.name != name {
        let told = format!("the body is network {}, the path says {name}", wanted.name);
        return Err(refused(StatusCode::BAD_REQUEST, told));
    }
    let only_new = headers.contains_key(header::IF_NONE_MATCH);
    let (network, revision, unchanged) = written(&networks, wanted, only_new).await?;
    let problems = networks.settled(revision, &name).await;
    Ok(Json(NetworkWritten { network, revision: revision.0, unchanged, problems }))
}

/// The network as it is in the catalogue now, since when, and whether it was before.
async fn written(
    networks: &Networks,
    wanted: Network,
    only_new: bool,
) -> Result<(Network, Revision, bool), Refused> {
    let _turn = networks.turn.lock().await;
    let catalogue = &networks.catalogue;
    let name = row_of(&catalogue.node, &wanted);
    for _ in 0..ATTEMPTS {
        let last = Table::<LastNetwork>::new(catalogue.store.clone());
        let last = last.get(LastNetwork::NAME).await.map_err(unavailable)?;
        let rows = catalogue.networks().list("").await.map_err(unavailable)?.rows;
        if let Some(row) = rows.get(&name) {
            let is_so = !only_new && row.value.comes_of(&wanted);
            return match is_so {
                true => Ok((row.value.clone(), row.revision, true)),
                false => Err(refused(StatusCode::CONFLICT, exists(&row.value, &wanted))),
            };
        }
        if let Some(other) = namesake(&wanted, &rows, &catalogue.node) {
            return Err(refused(StatusCode::CONFLICT, other));
        }
        let network = fitting(networks, wanted.clone(), rows).await?;
        let new = only_one(&name, &network, last.map(|row| row.revision)).map_err(internal)?;
        if let Outcome::Committed(revision) = catalogue.store.commit(new).await.map_err(unavailable)? {
            return Ok((network, revision, false));
        }
    }
    Err(unavailable("others write networks all the time: try again"))
}

/// Writes a network, unless any node wrote one since `last` was read.
fn only_one(
    name: &str,
    network: &Network,
    last: Option<Revision>,
) -> Result<Transaction, zeugma_catalogue::Error> {
    let (last_key, new) = (Table::<LastNetwork>::key(LastNetwork::NAME)?, Transaction::new());
    let new = match last {
        Some(revision) => new.expect(last_key, revision),
        None => new.expect_absent(last_key),
    };
    let new = new.expect_absent(Table::<Network>::key(name)?);
    let new = Table::put(new, LastNetwork::NAME, &LastNetwork { network: name.into() }, None)?;
    Table::put(new, name, network, None)
}

/// A network of the name that the new one cannot be beside: a list has one of them. Hosts may have networks of the same
/// name each, none may have one beside an overlay's.
fn namesake(wanted: &Network, rows: &BTreeMap<String, Row<Network>>, here: &NodeName) -> Option<String> {
    let name = &wanted.name;
    let of_name = |row: &&String| row.rsplit('/').next() == Some(name.as_str());
    let node = |row: &String| Some(row.split_once('/')?.0.to_owned());
    match (wanted.is_shared(), rows.keys().find(of_name).map(node)) {
        (true, Some(Some(node))) => Some(format!(
            "node {node} has a network {name} of its own: take another name, or remove that one there (zeugma network \
             rm {name})"
        )),
        (false, _) if rows.contains_key(name.as_str()) => {
            Some(format!("network {name} is an overlay that all nodes share, {here} too: take another name"))
        }
        _ => None,
    }
}

fn exists(there: &Network, wanted: &Network) -> String {
    let name = &there.name;
    match there.comes_of(wanted) {
        true => format!("network {name} exists already: see zeugma network inspect {name}"),
        false => format!(
            "network {name} exists with other settings, and a network is never changed: remove it first \
             (zeugma network rm {name})"
        ),
    }
}

fn key(networks: &Networks, network: &Network) -> Result<zeugma_catalogue::Key, Refused> {
    let name = row_of(&networks.catalogue.node, network);
    Table::<Network>::key(&name).map_err(|error| refused(StatusCode::BAD_REQUEST, error))
}

/// With subnets that nobody else has, on any node, and a date. What is named may be another node's, too: a macvlan is
/// on the same wire everywhere. An overlay is on all nodes, and no other network may have anything of it.
async fn fitting(
    networks: &Networks,
    wanted: Network,
    rows: BTreeMap<String, Row<Network>>,
) -> Result<Network, Refused> {
    let subnets: Vec<_> =
        rows.values().flat_map(|row| &row.value.subnets).map(|subnet| subnet.subnet).collect();
    let node = &networks.catalogue.node;
    let is_beside = |row: &String| wanted.is_shared() || name_on(node, row).is_some();
    let others: Vec<Network> =
        rows.into_iter().filter(|(row, _)| is_beside(row)).map(|(_, row)| row.value).collect();
    let conflict = |error: &dyn std::fmt::Display| refused(StatusCode::CONFLICT, error.to_string());
    let (directory, name) = (networks.directory.clone(), wanted.name.clone());
    let look = move || (directory.ensure_free(&name), directory.ours(&name), taken(&directory));
    let (free, listed, taken) = spawn_blocking(look).await.map_err(internal)?;
    free.map_err(|error| conflict(&error))?;
    // A catalogue that was lost: containers may be on the network as it was.
    let listed = listed.map_err(internal)?.and_then(|list| list.network());
    if let Some(network) = listed.filter(|network| network.comes_of(&wanted)) {
        apart(&network, &others)?;
        return Ok(network);
    }
    let mut taken = taken.map_err(internal)?;
    taken.extend(subnets);
    if wanted.is_shared() {
        let hosts = hosts(networks).await?;
        ensure_reachable(&wanted, &hosts)?;
        taken.extend(hosts.into_iter().map(|(address, _)| IpNetwork::from(address)));
    }
    taken.extend(left(networks, &wanted).await?.into_iter().map(|block| block.subnet));
    taken.extend(&networks.catalogue.service_ranges);
    let mut network =
        completed(wanted, &taken, networks.catalogue.node.as_str()).map_err(|error| conflict(&error))?;
    network = numbered(network, &others).map_err(|error| conflict(&error))?;
    apart(&network, &others)?;
    network.created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(network)
}

/// What other nodes have of overlays: each gives back its own, when the last container of a removed one is gone there. A
/// new overlay has none of that, unless it is the same one again.
async fn left(networks: &Networks, wanted: &Network) -> Result<Vec<Block>, Refused> {
    let rows =
        Table::<Block>::new(networks.catalogue.store.clone()).list("").await.map_err(unavailable)?.rows;
    let blocks = rows.into_values().map(|row| row.value);
    let blocks: Vec<Block> = blocks.filter(|block| block.node != networks.catalogue.node).collect();
    let is_in_the_way = |block: &&Block| {
        let mut subnets = wanted.subnets.iter().map(|subnet| subnet.subnet);
        block.network != wanted.name && subnets.any(|subnet| overlap(subnet, block.subnet))
    };
    match blocks.iter().find(is_in_the_way).filter(|_| wanted.is_shared()) {
        None => Ok(blocks),
        Some(Block { network, subnet, node }) => Err(refused(
            StatusCode::CONFLICT,
            format!(
                "node {node} has {subnet} of network {network}: take other subnets, or, if that network is removed, try \
                 again when its containers there are gone (for a node that does not come back: zeugma node rm {node})"
            ),
        )),
    }
}

fn apart(network: &Network, others: &[Network]) -> Result<(), Refused> {
    let clash = others.iter().try_for_each(|other| ensure_apart(network, other));
    clash.map_err(|clash| refused(StatusCode::CONFLICT, clash))
}

/// Addresses that this host reaches others by, and whose they are.
async fn hosts(networks: &Networks) -> Result<Vec<(IpAddr, String)>, Refused> {
    let catalogue = &networks.catalogue;
    let nodes = Table::<Node>::new(catalogue.store.clone()).list("").await.map_err(unavailable)?.rows;
    let of_node = |node: &Node| {
        let told = format!("node {}", node.name);
        node.addresses.iter().map(|address| (*address, told.clone())).collect::<Vec<_>>()
    };
    let stores = catalogue.store_at.iter().map(|address| (*address, "the catalogue's store".into()));
    Ok(nodes.values().flat_map(|row| of_node(&row.value)).chain(stores).collect())
}

/// What an overlay's subnets have is unreachable but for its containers: with the others' addresses in them no host
/// would reach another one, nor the catalogue to take the network away.
fn ensure_reachable(network: &Network, hosts: &[(IpAddr, String)]) -> Result<(), Refused> {
    for subnet in network.subnets.iter().map(|subnet| subnet.subnet) {
        if let Some((address, owner)) = hosts.iter().find(|(address, _)| subnet.contains(*address)) {
            let name = &network.name;
            let told = format!(
                "subnet {subnet} of network {name} has the address {address} of {owner}: take another"
            );
            return Err(refused(StatusCode::CONFLICT, told));
        }
    }
    Ok(())
}

async fn remove(
    State(networks): State<Networks>,
    name: Result<Path<NetworkName>, PathRejection>,
) -> Result<Json<NetworkRemoved>, Refused> {
    let name = named(name)?;
    let row = found(&networks, &name).await?;
    ensure_unused(&networks, &name).await?;
    let key = key(&networks, &row.value)?;
    let gone = Transaction::new().expect(key.clone(), row.revision).delete(key);
    match networks.catalogue.store.commit(gone).await.map_err(unavailable)? {
        Outcome::Committed(revision) => {
            let problems = networks.settled(revision, &name).await;
            Ok(Json(NetworkRemoved { revision: revision.0, problems }))
        }
        Outcome::Conflict { .. } => {
            Err(refused(StatusCode::CONFLICT, format!("network {name} changed meanwhile: try again")))
        }
    }
}

async fn ensure_unused(networks: &Networks, name: &NetworkName) -> Result<(), Refused> {
    let of = name.clone();
    let told = spawn_blocking(move || attached(&Journal::default(), &of)).await.map_err(internal)?;
    if let Some(told) = told.map_err(internal)? {
        return Err(refused(StatusCode::CONFLICT, told));
    }
    let services = networks.catalogue.services().list("").await.map_err(unavailable)?.rows;
    let users = services.into_values().filter(|row| row.value.service.networks.contains(name));
    let users: Vec<String> = users.map(|row| row.value.service.name.to_string()).collect();
    match users.is_empty() {
        true => Ok(()),
        false => {
            let told = format!("services are on network {name}: {}; remove them first", users.join(", "));
            Err(refused(StatusCode::CONFLICT, told))
        }
    }
}

/// Who is on the network, and what to do about it; none: nobody.
fn attached(journal: &Journal, name: &NetworkName) -> Result<Option<String>, zeugma_journal::Error> {
    let attached = journal.attached_to(name)?;
    let containers: BTreeSet<&str> = attached.iter().map(|id| id.container.as_str()).collect();
    // Who is attached by a list of another name is detached by that name.
    let lists: BTreeSet<&str> = attached.iter().map(|id| id.network.as_str()).collect();
    let ways = lists.iter().map(|list| format!("zeugma network disconnect {list} CONTAINER"));
    let (names, ways) = (Vec::from_iter(containers).join(", "), Vec::from_iter(ways).join(" or "));
    let told = || format!("network {name} has containers: {names}; remove them, or {ways}");
    Ok((!attached.is_empty()).then(told))
}

#[cfg(test)]
mod tests {
    use std::path::Path as FilePath;
    use std::sync::Arc;

    use ipnetwork::IpNetwork;
    use serde_json::json;
    use zeugma_catalogue::{Embedded, Store};

    use super::*;
    use crate::services::{Catalogue, CatalogueId};
    use crate::settings::Runtimes;

    fn node(root: &FilePath, store: &Arc<dyn Store>, name: &str) -> Networks {
        let catalogue = Catalogue {
            store: store.clone(),
            id: CatalogueId::default(),
            node: name.parse().unwrap(),
            service_ranges: Vec::new(),
            store_at: vec!["10.7.0.1".parse().unwrap()],
        };
        let (conf_dir, bin_dir) = (root.join(name), root.join("bin"));
        Networks::start(catalogue, Runtimes { conf_dir, bin_dir })
    }

    #[tokio::test]
    async fn nodes_that_create_networks_at_once_find_different_subnets() {
        let root = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Embedded::open(root.path().join("a.redb")).await.unwrap());
        let (one, two) = (node(root.path(), &store, "one"), node(root.path(), &store, "two"));
        let front = || -> Network { serde_json::from_value(json!({"name": "front"})).unwrap() };
        let (on_one, on_two) = tokio::join!(written(&one, front(), true), written(&two, front(), true));
        let subnets = [on_one, on_two].map(|written| written.ok().unwrap().0.subnets);
        assert_ne!(subnets[0], subnets[1]);
        let listed = one.catalogue.networks().list("").await.unwrap().rows;
        assert_eq!(Vec::from_iter(listed.keys()), ["one/front", "two/front"]);
    }

    #[tokio::test]
    async fn an_overlay_does_not_get_addresses_of_hosts_or_of_the_store() {
        let root = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Embedded::open(root.path().join("a.redb")).await.unwrap());
        let one = node(root.path(), &store, "one");
        let two = json!({"name": "two", "addresses": ["10.6.0.2"], "machine": "00".repeat(16)});
        let two: Node = serde_json::from_value(two).unwrap();
        let put = Table::put(Transaction::new(), "two", &two, None).unwrap();
        assert!(matches!(store.commit(put).await.unwrap(), Outcome::Committed(_)));
        for (subnet, owner) in [("10.6.0.0/15", "node two"), ("10.7.0.0/16", "the catalogue's store")] {
            let wanted = json!({"name": "front", "driver": "overlay", "subnets": [{"subnet": subnet}]});
            let told = written(&one, serde_json::from_value(wanted).unwrap(), true).await.err().unwrap();
            assert!(told.0 == StatusCode::CONFLICT && told.1.error.contains(owner), "{}", told.1.error);
        }
    }

    #[tokio::test]
    async fn what_nodes_have_of_a_removed_overlay_stays_theirs() {
        let root = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Embedded::open(root.path().join("a.redb")).await.unwrap());
        let one = node(root.path(), &store, "one");
        let network = |name: &str, keys: serde_json::Value| -> Network {
            let mut network = json!({"name": name, "driver": "overlay"});
            network.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
            serde_json::from_value(network).unwrap()
        };
        let front = written(&one, network("front", json!({})), false).await.ok().unwrap().0;
        let subnet = front.subnets[0].subnet;
        let block = Block {
            network: front.name.clone(),
            subnet: IpNetwork::new(subnet.ip(), 24).unwrap(),
            node: "two".parse().unwrap(),
        };
        let put = Table::put(Transaction::new(), &block.key(), &block, None).unwrap();
        assert!(matches!(store.commit(put).await.unwrap(), Outcome::Committed(_)));
        let gone = remove(State(one.clone()), Ok(Path(front.name.clone()))).await;
        assert!(gone.is_ok());
        let blocks = Table::<Block>::new(store.clone()).list("").await.unwrap().rows;
        assert_eq!(blocks.len(), 1, "another node's containers lose their routes");
        let back = written(&one, network("back", json!({})), false).await.ok().unwrap().0;
        assert_ne!(back.subnets[0].subnet, subnet);
        let same = json!({"subnets": [{"subnet": subnet}]});
        let (status, told) = written(&one, network("other", same.clone()), false).await.err().unwrap();
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(told.0.error.contains("node two has"), "{}", told.0.error);
        assert!(written(&one, network("front", same), false).await.is_ok());
    }

    #[test]
    fn a_network_is_in_use_by_containers_of_a_list_of_another_name() {
        let root = tempfile::tempdir().unwrap();
        let (journal, front) = (Journal::at(root.path()), "front".parse().unwrap());
        assert_eq!(attached(&journal, &front).unwrap(), None);
        let state = json!({"network": "front", "backend": "vxlan", "subnets": ["10.90.0.0/16"],
            "blocks": ["10.90.1.0/24"], "mtu": 1450, "bridge": "br-front", "tunnel": "vx-front", "masquerade": true});
        let record = zeugma_journal::Record {
            plugin: "overlay".into(),
            overlay: serde_json::from_value(state).unwrap(),
            ..Default::default()
        };
        let id = zeugma_model::AttachmentId {
            network: "mylist".parse().unwrap(),
            container: "c".parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        };
        journal.begin(&id, record).unwrap();
        let told = attached(&journal, &front).unwrap().unwrap();
        assert!(told.contains("containers: c;") && told.contains("disconnect mylist CONTAINER"), "{told}");
    }

    #[tokio::test]
    async fn an_overlay_is_one_network_on_all_nodes() {
        let root = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Embedded::open(root.path().join("a.redb")).await.unwrap());
        let (one, two) = (node(root.path(), &store, "one"), node(root.path(), &store, "two"));
        let network = |name: &str, driver: &str| -> Network {
            serde_json::from_value(json!({"name": name, "driver": driver})).unwrap()
        };
        let (front, back) = (network("front", "overlay"), network("back", "overlay"));
        let (on_one, on_two) =
            tokio::join!(written(&one, front.clone(), false), written(&two, front.clone(), false));
        let (on_one, on_two) = (on_one.ok().unwrap(), on_two.ok().unwrap());
        assert_eq!((&on_one.0, on_one.2 || on_two.2), (&on_two.0, true));
        let back = written(&two, back, true).await.ok().unwrap().0;
        let vni = |network: &Network| network.overlay().unwrap().vni().unwrap().get();
        assert_eq!((vni(&on_one.0), vni(&back)), (4096, 4097));
        assert_ne!(back.subnets, on_one.0.subnets);
        for (node, network) in [(&two, network("front", "bridge")), (&one, network("back", "bridge"))] {
            assert_eq!(written(node, network, false).await.err().unwrap().0, StatusCode::CONFLICT);
        }
        written(&one, network("mine", "bridge"), true).await.ok().unwrap();
        assert!(written(&two, network("mine", "overlay"), true).await.is_err());
        let listed = one.catalogue.networks().list("").await.unwrap().rows;
        assert_eq!(Vec::from_iter(listed.keys()), ["back", "front", "one/mine"]);
    }
}
