//! What the socket says: questions become messages to the loop, its answers JSON. Paths and shapes are `zeugma-api`'s.

mod endpoints;
pub(crate) mod networks;
pub(crate) mod overlays;
mod refusals;
mod services;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use zeugma_api::{
    Answer, DNS_DUMP, DNS_QUERY, Dump, Failure, Lookup, NameAnswers, NetworkNames, PortAnswer, REPAIR,
    Repaired, STATUS, SYNC, ServiceAnswers, Status, Synced,
};
use zeugma_dns::server::{LookupError, Resolver};
use zeugma_dns::zone::{NameDump, NamedPort, NetworkDump, ServiceDump};
use zeugma_model::{AttachmentId, NetworkName};

use crate::heal;
use crate::overlay::Overlays;
use crate::reconcile::{Message, Names};
use crate::services::Services;

/// The way to the loop and to the resolver.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) loop_: mpsc::Sender<Message>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) figures: tokio::sync::watch::Receiver<crate::figures::Figures>,
    pub(crate) healing: Arc<heal::Counters>,
    pub(crate) services: Services,
    pub(crate) overlays: Overlays,
}

/// An answer that is no success.
pub(crate) type Refused = (StatusCode, Json<Failure>);

pub(crate) fn refused(code: StatusCode, why: impl ToString) -> Refused {
    (code, Json(Failure { error: why.to_string() }))
}

impl Agent {
    /// Asks the loop and waits for its answer.
    pub(crate) async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, Refused> {
        let ends = |_| refused(StatusCode::SERVICE_UNAVAILABLE, "the agent ends: try again");
        let (sender, receiver) = oneshot::channel();
        self.loop_.send(message(sender)).await.map_err(|_| ends(()))?;
        receiver.await.map_err(|_| ends(()))
    }
}

/// The API.
pub(crate) fn router(agent: Agent) -> Router {
    Router::new()
        .route(SYNC, post(sync))
        .route(STATUS, get(status))
        .route(DNS_DUMP, get(dump))
        .route(DNS_QUERY, get(query))
        .route(REPAIR, post(repair))
        .merge(services::router())
        .fallback(async || refused(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            refused(StatusCode::METHOD_NOT_ALLOWED, "another method is needed")
        })
        .with_state(agent)
}

async fn sync(
    State(agent): State<Agent>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Synced>, Refused> {
    let body = body.map_err(|wrong| refused(wrong.status(), wrong.body_text()))?;
    // Whatever content type it is said to have: there is but one.
    let id: AttachmentId = serde_json::from_slice(&body).map_err(|wrong| {
        refused(StatusCode::BAD_REQUEST, format!("the body is no attachment's ID: {wrong}"))
    })?;
    let settling = agent.ask(|told| Message::Sync(id, told)).await?;
    for listener in settling.listeners {
        // One that closed meanwhile is settled, too.
        let _ = listener.await;
    }
    Ok(Json(Synced { generation: settling.generation }))
}

async fn status(State(agent): State<Agent>) -> Result<Json<Status>, Refused> {
    let mut problems = agent.ask(Message::Problems).await?;
    problems.extend(agent.resolver.zone_problems());
    let services = agent.services.figures.borrow().clone();
    let catalogue = agent.services.store();
    problems.extend(services.problems);
    problems.extend(agent.overlays.problems());
    problems.extend(catalogue.why.iter().map(|why| format!("the catalogue does not answer: {why}")));
    let figures = agent.figures.borrow().clone();
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        generation: figures.generation,
        attachments: figures.attachments,
        networks: figures.networks,
        repairs: agent.healing.repairs(),
        listeners: figures.listeners_open,
        services: services.services,
        endpoints: services.endpoints,
        catalogue,
        problems,
    }))
}

async fn dump(State(agent): State<Agent>) -> Result<Json<Dump>, Refused> {
    let Names { generation, snapshot, listeners } = agent.ask(Message::Names).await?;
    // Ten thousands of names take a while: not the loop's thread's.
    let dump = tokio::task::spawn_blocking(move || Dump {
        generation,
        networks: snapshot.dump().into_iter().map(|dump| network_names(dump, &listeners)).collect(),
        services: snapshot.dump_services().into_iter().map(service_answers).collect(),
    });
    dump.await.map(Json).map_err(|error| refused(StatusCode::INTERNAL_SERVER_ERROR, error))
}

fn network_names(dump: NetworkDump, listeners: &BTreeMap<NetworkName, Vec<SocketAddr>>) -> NetworkNames {
    let names = dump.names.into_iter().map(|NameDump { name, addresses, attachments, services, refused }| {
        NameAnswers { name, addresses, attachments, services, refused }
    });
    NetworkNames {
        listeners: listeners.get(&dump.network.name).cloned().unwrap_or_default(),
        network: dump.network.name,
        domain: dump.network.domain,
        internal: dump.network.upstreams.internal,
        servers: dump.network.upstreams.servers,
        names: names.collect(),
    }
}

fn service_answers(dump: ServiceDump) -> ServiceAnswers {
    let port = |NamedPort { name, protocol, port, target }| PortAnswer { name, protocol, port, target };
    ServiceAnswers {
        name: dump.name,
        networks: dump.networks,
        addresses: dump.addresses,
        tasks: dump.tasks,
        ports: dump.ports.into_iter().map(port).collect(),
        nameless: dump.nameless,
    }
}

#[derive(Deserialize)]
struct Asked {
    name: String,
    #[serde(rename = "type", default = "address")]
    kind: String,
    network: Option<NetworkName>,
}

fn address() -> String {
    "A".into()
}

async fn query(
    State(agent): State<Agent>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Lookup>, Refused> {
    let Query(Asked { name, kind, network }) =
        asked.map_err(|wrong| refused(wrong.status(), wrong.body_text()))?;
    let found = agent.resolver.lookup(network, &name, &kind).await.map_err(|error| match error {
        LookupError::Name(_) | LookupError::Kind(_) => refused(StatusCode::BAD_REQUEST, error),
        LookupError::Network(_) => refused(StatusCode::NOT_FOUND, error),
        LookupError::Answer(_) => refused(StatusCode::BAD_GATEWAY, error),
        LookupError::Ended => refused(StatusCode::SERVICE_UNAVAILABLE, error),
    })?;
    let records = found.records.into_iter().map(|(name, ttl, kind, data)| Answer { name, ttl, kind, data });
    Ok(Json(Lookup { code: found.code, records: records.collect() }))
}

async fn repair(State(agent): State<Agent>) -> Result<Json<Repaired>, Refused> {
    let begin = std::time::Instant::now();
    let outcome = tokio::task::spawn_blocking(|| heal::repair(heal::Mode::Apply)).await;
    let outcome = outcome.map_err(|error| refused(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    agent.healing.count(&outcome, begin.elapsed());
    outcome.map(Json).map_err(|error| refused(StatusCode::INTERNAL_SERVER_ERROR, error))
}
