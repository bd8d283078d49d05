//! What is answered about overlays and nodes. Shapes and paths are `zeugma-api`'s.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use tokio::sync::oneshot;
use zeugma_api::{NODE, NODES, NodeView, OverlayView, PEERS, ROTATE};
use zeugma_catalogue::{Error, Kind, Outcome, Table, Transaction};
use zeugma_model::{Alive, Block, Node, NodeName, PublicKey};

use super::{Refused, refused};
use crate::overlay::{Ask, Overlays};
use crate::services::Catalogue;

/// Blocks that are freed in one transaction.
const AT_ONCE: usize = 100;

/// What is asked at the paths of overlays.
pub(crate) fn router(overlays: Overlays) -> Router {
    Router::new()
        .route(PEERS, get(peers))
        .route(NODES, get(nodes))
        .route(NODE, delete(remove))
        .route(ROTATE, post(rotate))
        .with_state(overlays)
}

async fn asked<T>(overlays: &Overlays, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Refused> {
    let ends = || refused(StatusCode::SERVICE_UNAVAILABLE, "the agent ends: try again");
    overlays.ask(ask).await.ok_or_else(ends)
}

async fn peers(State(overlays): State<Overlays>) -> Result<Json<Vec<OverlayView>>, Refused> {
    asked(&overlays, Ask::Overlays).await.map(Json)
}

async fn nodes(State(overlays): State<Overlays>) -> Result<Json<Vec<NodeView>>, Refused> {
    asked(&overlays, Ask::Nodes).await.map(Json)
}

async fn rotate(State(overlays): State<Overlays>) -> Result<Json<PublicKey>, Refused> {
    let key = asked(&overlays, Ask::Rotate).await?;
    key.map(Json).map_err(|told| refused(StatusCode::SERVICE_UNAVAILABLE, told))
}

async fn remove(
    State(overlays): State<Overlays>,
    name: Result<Path<NodeName>, PathRejection>,
) -> Result<Json<Vec<Block>>, Refused> {
    let Path(name) = name.map_err(|wrong| refused(wrong.status(), wrong.body_text()))?;
    if let Some(file) = &overlays.peers {
        return Err(refused(StatusCode::CONFLICT, in_file(&name, file)));
    }
    let removed = removed(&overlays.catalogue, &name).await;
    match removed.map_err(|error| refused(StatusCode::SERVICE_UNAVAILABLE, error))? {
        Removed::Freed(blocks) => Ok(Json(blocks)),
        Removed::Missing => {
            let told = format!("there is no node {name}: zeugma node ls lists them");
            Err(refused(StatusCode::NOT_FOUND, told))
        }
        Removed::Lives => {
            let told = format!(
                "node {name} lives: stop its agent first, and wait until it is not heard of any more"
            );
            Err(refused(StatusCode::CONFLICT, told))
        }
    }
}

/// Nodes that are in no catalogue are not removed from it.
fn in_file(name: &NodeName, file: &std::path::Path) -> String {
    let file = file.display();
    format!(
        "this host's nodes are in the file {file}, which every host has: take node {name} out of it there"
    )
}

enum Removed {
    Freed(Vec<Block>),
    Missing,
    Lives,
}

/// Blocks first, the node last: what is interrupted can be done again.
async fn removed(catalogue: &Catalogue, name: &NodeName) -> Result<Removed, Error> {
    let (node, alive) = (Table::<Node>::key(name.as_str())?, Table::<Alive>::key(name.as_str())?);
    let is_there = catalogue.store.get(&node).await?.is_some();
    let blocks = Table::<Block>::new(catalogue.store.clone()).list("").await?.rows;
    let its: Vec<(String, Block)> = blocks
        .into_iter()
        .map(|(key, row)| (key, row.value))
        .filter(|(_, block)| block.node == *name)
        .collect();
    if !is_there && its.is_empty() {
        return Ok(Removed::Missing);
    }
    let dead = || Transaction::new().expect_absent(alive.clone());
    for some in its.chunks(AT_ONCE) {
        let delete = |transaction: Transaction, (key, _): &(String, Block)| {
            Ok::<_, Error>(transaction.delete(Table::<Block>::key(key)?))
        };
        if is_refused(catalogue.store.commit(some.iter().try_fold(dead(), delete)?).await?) {
            return Ok(Removed::Lives);
        }
    }
    match is_refused(catalogue.store.commit(dead().delete(node)).await?) {
        true => Ok(Removed::Lives),
        false => Ok(Removed::Freed(its.into_iter().map(|(_, block)| block).collect())),
    }
}

fn is_refused(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Conflict { key, .. } if key.kind() == Kind::Alive)
}
