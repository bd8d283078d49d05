//! What the socket says of services: requests become writes of the catalogue and questions to the director.
//!
//! Whoever writes waits, for a bounded time, until the change is in this host's kernel and names. What does not work
//! nevertheless is in the answer.

use std::fmt::Display;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Duration, timeout};
use zeugma_api::{
    REVISION, SERVICE, SERVICE_ENDPOINT, SERVICE_ENDPOINT_DRAIN, SERVICE_ROLLBACK, SERVICES, ServiceView,
    Written,
};
use zeugma_catalogue::Revision;
use zeugma_journal::Claims;
use zeugma_kernel::Kernel;
use zeugma_model::{Deployment, Service, ServiceName, Vips};
use zeugma_services::{applied, rolled_back, updated};

use super::refusals::{failed, none_called};
use super::{Agent, Refused, endpoints, refused};
use crate::services::{Ask, Occupied, Services, What, Write, WriteError};

/// How long somebody waits for news.
const NEWS: Duration = Duration::from_secs(30);
/// How many may do so at once: connections are few, and plugins need theirs.
const WAITING: usize = 32;
/// Between two attempts of writers that get in each other's way.
const ATTEMPTS: usize = 4;

/// Those who wait for news.
static WAITERS: Semaphore = Semaphore::const_new(WAITING);

/// Leave to wait for news, of services and networks alike.
pub(super) fn leave_to_wait() -> Result<SemaphorePermit<'static>, Refused> {
    WAITERS.try_acquire().map_err(|_| {
        let why = "many others wait for news already: ask without `after`, or end some `--watch`";
        refused(StatusCode::SERVICE_UNAVAILABLE, why)
    })
}

pub(super) fn router() -> Router<Agent> {
    Router::new()
        .route(SERVICES, get(list))
        .route(SERVICE, get(one).put(put).delete(delete))
        .route(SERVICE_ROLLBACK, post(rollback))
        .route(SERVICE_ENDPOINT, get(endpoints::one).put(endpoints::put).delete(endpoints::delete))
        .route(SERVICE_ENDPOINT_DRAIN, post(endpoints::drain))
}

/// After which revision.
#[derive(Deserialize)]
struct After {
    after: Option<u64>,
}

type Listed = ([(HeaderName, String); 1], Json<Vec<ServiceView>>);

async fn list(
    State(agent): State<Agent>,
    after: Result<Query<After>, QueryRejection>,
) -> Result<Listed, Refused> {
    let Query(After { after }) = after.map_err(|wrong| refused(wrong.status(), wrong.body_text()))?;
    let views = match after {
        None => all(&agent, None).await?,
        Some(_) => {
            let _permit = leave_to_wait()?;
            match timeout(NEWS, all(&agent, after)).await {
                Ok(views) => views?,
                Err(_) => all(&agent, None).await?,
            }
        }
    };
    let (revision, views) = views;
    Ok(([(HeaderName::from_static(REVISION), revision.to_string())], Json(views)))
}

async fn all(agent: &Agent, after: Option<u64>) -> Result<(u64, Vec<ServiceView>), Refused> {
    asked(&agent.services, |told| Ask::Services(after, told)).await
}

async fn one(State(agent): State<Agent>, Path(name): Path<String>) -> Result<Json<ServiceView>, Refused> {
    let name = named(&name)?;
    let view = asked(&agent.services, |told| Ask::Service(name.clone(), told)).await?;
    match view {
        Some(mut view) => {
            view.problems.extend(held_ports(&view.deployment.service));
            Ok(Json(view))
        }
        None => Err(none_called(&agent.services, &name).await),
    }
}

async fn put(
    State(agent): State<Agent>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Written>, Refused> {
    let (name, service) = (named(&name)?, parsed::<Service>(body, "service")?);
    if service.name != name {
        let why = format!("the path says service {name}, the body {}: say the same in both", service.name);
        return Err(refused(StatusCode::BAD_REQUEST, why));
    }
    ensure_free(&agent.services, &service).await?;
    let only_new = headers.get(IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == b"*");
    let written = match headers.get(IF_MATCH) {
        _ if only_new => agent.services.catalogue.create(service.clone()).await.map_err(Unwritten::from),
        Some(revision) => changed(&agent.services, &service, revision.as_bytes()).await,
        None => replaced(&agent.services, &service).await.map_err(Unwritten::from),
    };
    match written {
        Ok(written) => {
            let mut written = settled(&agent.services, What::Service, written).await?;
            written.problems.extend(held_ports(&service));
            Ok(Json(written))
        }
        Err(unwritten) => Err(unwritten.told(&agent.services).await),
    }
}

/// A virtual address that is this host's, or in a network's subnet, would take from it whoever is there.
async fn ensure_free(services: &Services, service: &Service) -> Result<(), Refused> {
    if service.vips() == Vips::default() {
        return Ok(());
    }
    let internal = |error: &dyn Display| refused(StatusCode::INTERNAL_SERVER_ERROR, error);
    let own = spawn_blocking(|| Kernel::resident().all_addresses()).await;
    let own = own.map_err(|error| internal(&error))?.map_err(|error| internal(&error))?;
    let networks = match services.catalogue.networks().list("").await {
        Ok(networks) => networks.rows.into_values(),
        Err(error) => return Err(failed(services, error.into()).await),
    };
    let subnets = networks.flat_map(|row| row.value.subnets).map(|subnet| subnet.subnet).collect();
    let occupied = Occupied::new(own.into_iter().map(|(_, address)| address.ip()), subnets);
    match service.vips().iter().find_map(|vip| occupied.why(vip)) {
        None => Ok(()),
        Some(why) => {
            let why = format!(
                "service {}: {why}: take another virtual address, or none for any that is free",
                service.name
            );
            Err(refused(StatusCode::CONFLICT, why))
        }
    }
}

/// Updates it, unless somebody else wrote it after the revision.
async fn changed(services: &Services, service: &Service, revision: &[u8]) -> Result<Written, Unwritten> {
    let (catalogue, name) = (&services.catalogue, &service.name);
    let row = catalogue.services().get(name.as_str()).await.map_err(WriteError::from)?;
    let row = row.ok_or_else(|| WriteError::Missing(name.clone()))?;
    let stale = || {
        let why = format!("service {name} was changed by somebody else meanwhile: look at it and try again");
        Unwritten::Refused(refused(StatusCode::PRECONDITION_FAILED, why))
    };
    if row.revision.to_string().as_bytes() != revision {
        return Err(stale());
    }
    let update = |before: Deployment| match before == row.value {
        true => Ok(updated(&before, service.clone(), &catalogue.node)),
        false => Err(stale()),
    };
    catalogue.change(name, update).await
}

/// Updates it, or creates it when there is none; others may do the opposite meanwhile.
async fn replaced(services: &Services, service: &Service) -> Result<Written, WriteError> {
    let catalogue = &services.catalogue;
    for _ in 0..ATTEMPTS {
        let update = |before: Deployment| Ok(applied(&before, service.clone(), &catalogue.node));
        match catalogue.change(&service.name, update).await {
            Err(WriteError::Missing(_)) => {}
            outcome => return outcome,
        }
        match catalogue.create(service.clone()).await {
            Err(WriteError::Exists(_)) => {}
            outcome => return outcome,
        }
    }
    Err(WriteError::Contended(service.name.clone()))
}

async fn delete(State(agent): State<Agent>, Path(name): Path<String>) -> Result<Json<Written>, Refused> {
    let name = named(&name)?;
    match agent.services.catalogue.delete(&name).await {
        Ok(Revision(revision)) => {
            let (vips, problems) = (Vec::new(), Vec::new());
            let written = Written { service: name, revision, unchanged: false, vips, problems };
            settled(&agent.services, What::Service, written).await.map(Json)
        }
        Err(error) => Err(failed(&agent.services, error).await),
    }
}

/// Why it was not written.
enum Unwritten {
    Refused(Refused),
    Failed(WriteError),
}

impl From<WriteError> for Unwritten {
    fn from(error: WriteError) -> Self {
        Self::Failed(error)
    }
}

impl Unwritten {
    async fn told(self, services: &Services) -> Refused {
        match self {
            Self::Refused(refused) => refused,
            Self::Failed(error) => failed(services, error).await,
        }
    }
}

async fn rollback(State(agent): State<Agent>, Path(name): Path<String>) -> Result<Json<Written>, Refused> {
    let (name, catalogue) = (named(&name)?, &agent.services.catalogue);
    let back = |before: Deployment| {
        rolled_back(&before, &catalogue.node)
            .map_err(|error| Unwritten::Refused(refused(StatusCode::CONFLICT, error)))
    };
    match catalogue.change(&name, back).await {
        Ok(written) => settled(&agent.services, What::Service, written).await.map(Json),
        Err(unwritten) => Err(unwritten.told(&agent.services).await),
    }
}

/// Waits until it is in the kernel and in names.
pub(super) async fn settled(
    services: &Services,
    what: What,
    mut written: Written,
) -> Result<Written, Refused> {
    let write = Write { service: written.service.clone(), what, revision: Revision(written.revision) };
    written.problems.extend(asked(services, |told| Ask::Settled(write, told)).await?);
    Ok(written)
}

/// Asks the director and waits for its answer.
pub(super) async fn asked<T>(
    services: &Services,
    ask: impl FnOnce(oneshot::Sender<T>) -> Ask,
) -> Result<T, Refused> {
    let ends = || refused(StatusCode::SERVICE_UNAVAILABLE, "the agent ends: try again");
    services.ensure_known().map_err(|why| refused(StatusCode::SERVICE_UNAVAILABLE, why))?;
    let (sender, receiver) = oneshot::channel();
    services.asks.send(ask(sender)).await.map_err(|_| ends())?;
    receiver.await.map_err(|_| ends())
}

/// A name out of a path.
pub(super) fn named(name: &str) -> Result<ServiceName, Refused> {
    name.parse().map_err(|error| refused(StatusCode::BAD_REQUEST, error))
}

/// A body, whatever content type it is said to have: there is but one.
pub(super) fn parsed<T: DeserializeOwned>(
    body: Result<Bytes, BytesRejection>,
    what: &str,
) -> Result<T, Refused> {
    let body = body.map_err(|wrong| refused(wrong.status(), wrong.body_text()))?;
    serde_json::from_slice(&body)
        .map_err(|wrong| refused(StatusCode::BAD_REQUEST, format!("the body is no {what}: {wrong}")))
}

/// Published ports that containers of this host have, too: flows go to the service.
fn held_ports(service: &Service) -> Vec<String> {
    let held = service.published.iter().flat_map(|port| {
        let claims = Claims::glance(port.protocol, port.published.get()).unwrap_or_default();
        let alive = claims.into_iter().filter(|claim| !claim.is_dead());
        alive.map(move |claim| {
            let (name, number, protocol, owner) = (&service.name, port.published, port.protocol, claim.owner);
            format!(
                "{name}: port {number}/{protocol} is published by container {} on network {}, too, and flows go to the service: publish another port, or start the container without its own",
                owner.container, owner.network
            )
        })
    });
    let mut lines: Vec<String> = held.collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}
