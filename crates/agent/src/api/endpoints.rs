//! What the socket says of endpoints that somebody adds. Containers are endpoints by their labels, and nothing here
//! touches them.

use std::net::IpAddr;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use zeugma_api::{NewEndpoint, Removed, Written};
use zeugma_catalogue::{Outcome, Revision, Row, Table, Transaction};
use zeugma_model::{Deployment, Endpoint, EndpointState, Origin, RegisteredEndpoint, Service, ServiceName};

use super::refusals::{failed, none_called};
use super::services::{asked, named, parsed, settled};
use super::{Agent, Refused, refused};
use crate::services::{Ask, Services, What, WriteError};

/// Attempts of a writer that others get in the way of.
const ATTEMPTS: usize = 16;

/// An endpoint of a service, out of a path.
struct Place {
    service: ServiceName,
    address: IpAddr,
}

impl Place {
    fn of((service, address): (String, String)) -> Result<Self, Refused> {
        let address: IpAddr = address.parse().map_err(|_| {
            refused(
                StatusCode::BAD_REQUEST,
                format!("{address:?} is no address, such as 192.0.2.7 or 2001:db8::7"),
            )
        })?;
        let address = address.to_canonical();
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            let why = format!("{address} cannot serve: take an address that other hosts reach");
            return Err(refused(StatusCode::BAD_REQUEST, why));
        }
        Ok(Self { service: named(&service)?, address })
    }

    fn key(&self) -> String {
        format!("{}/{}", self.service, self.address)
    }
}

/// What is in the catalogue of a place.
struct Found {
    service: Row<Deployment>,
    endpoint: Option<Row<RegisteredEndpoint>>,
}

pub(super) async fn one(
    State(agent): State<Agent>,
    Path(path): Path<(String, String)>,
) -> Result<Json<NewEndpoint>, Refused> {
    let (services, place) = (&agent.services, Place::of(path)?);
    let Found { endpoint, .. } = found(services, &place).await?;
    let endpoint = endpoint.ok_or_else(|| not_there(&place))?.value;
    let Endpoint { node, weight, state, .. } = endpoint.endpoint;
    Ok(Json(NewEndpoint { node, weight, labels: endpoint.labels, state }))
}

pub(super) async fn put(
    State(agent): State<Agent>,
    Path(path): Path<(String, String)>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Written>, Refused> {
    let (services, place) = (&agent.services, Place::of(path)?);
    let NewEndpoint { node, weight, labels, state } = parsed(body, "endpoint")?;
    let endpoint = Endpoint { address: place.address, node, weight, state };
    let new = RegisteredEndpoint { service: place.service.clone(), endpoint, labels, origin: Origin::Added };
    ensure_no_vip(services, place.address)?;
    ensure_no_container(services, &place).await?;
    written(services, &place, |_| Ok(new.clone())).await.map(Json)
}

pub(super) async fn drain(
    State(agent): State<Agent>,
    Path(path): Path<(String, String)>,
) -> Result<Json<Written>, Refused> {
    let (services, place) = (&agent.services, Place::of(path)?);
    ensure_no_container(services, &place).await?;
    written(services, &place, |before| marked(&place, before, EndpointState::Draining)).await.map(Json)
}

/// How an endpoint leaves.
#[derive(Deserialize)]
pub(super) struct Leave {
    #[serde(default)]
    now: bool,
}

pub(super) async fn delete(
    State(agent): State<Agent>,
    Path(path): Path<(String, String)>,
    leave: Result<Query<Leave>, QueryRejection>,
) -> Result<Json<Removed>, Refused> {
    let Query(Leave { now }) = leave.map_err(|wrong| refused(wrong.status(), wrong.body_text()))?;
    let (services, place) = (&agent.services, Place::of(path)?);
    ensure_no_container(services, &place).await?;
    let drains = found(services, &place).await?.service.value.service.drain_seconds;
    if now && drains > 0 {
        // Who is not healthy has nothing to drain.
        written(services, &place, |before| marked(&place, before, EndpointState::Unhealthy)).await?;
    }
    let revision = deleted(services, &place).await?;
    let (service, vips, problems) = (place.service, Vec::new(), Vec::new());
    settled(services, What::Endpoint, Written { service, revision, unchanged: false, vips, problems })
        .await?;
    Ok(Json(Removed { revision, drains_seconds: if now { 0 } else { drains } }))
}

/// The endpoint as it is, with another state.
fn marked(
    place: &Place,
    before: Option<&RegisteredEndpoint>,
    state: EndpointState,
) -> Result<RegisteredEndpoint, Refused> {
    let mut endpoint = before.ok_or_else(|| not_there(place))?.clone();
    endpoint.endpoint.state = state;
    Ok(endpoint)
}

async fn found(services: &Services, place: &Place) -> Result<Found, Refused> {
    let catalogue = &services.catalogue;
    let service = match catalogue.services().get(place.service.as_str()).await {
        Ok(Some(service)) => service,
        Ok(None) => return Err(none_called(services, &place.service).await),
        Err(error) => return Err(failed(services, error.into()).await),
    };
    match catalogue.endpoints().get(&place.key()).await {
        Ok(endpoint) => Ok(Found { service, endpoint }),
        Err(error) => Err(failed(services, error.into()).await),
    }
}

/// Writes what `change` makes of it, as long as the service is there.
async fn written(
    services: &Services,
    place: &Place,
    change: impl Fn(Option<&RegisteredEndpoint>) -> Result<RegisteredEndpoint, Refused>,
) -> Result<Written, Refused> {
    for _ in 0..ATTEMPTS {
        let found = found(services, place).await?;
        let before = found.endpoint.as_ref().map(|row| &row.value);
        let after = change(before)?;
        if before == Some(&after) {
            let revision = found.endpoint.map_or(0, |row| row.revision.0);
            return settled(services, What::Endpoint, told(&found.service.value.service, revision, true))
                .await;
        }
        if let Some(Revision(revision)) = committed(services, place, &found, Some(&after)).await? {
            return settled(services, What::Endpoint, told(&found.service.value.service, revision, false))
                .await;
        }
    }
    Err(failed(services, WriteError::Contended(place.service.clone())).await)
}

async fn deleted(services: &Services, place: &Place) -> Result<u64, Refused> {
    for _ in 0..ATTEMPTS {
        let found = found(services, place).await?;
        if found.endpoint.is_none() {
            return Err(not_there(place));
        }
        if let Some(Revision(revision)) = committed(services, place, &found, None).await? {
            return Ok(revision);
        }
    }
    Err(failed(services, WriteError::Contended(place.service.clone())).await)
}

/// Writes or deletes it, unless somebody else did so meanwhile, or the service is another or gone: then none.
async fn committed(
    services: &Services,
    place: &Place,
    found: &Found,
    after: Option<&RegisteredEndpoint>,
) -> Result<Option<Revision>, Refused> {
    let outcome = async {
        let service = Table::<Deployment>::key(place.service.as_str())?;
        let key = Table::<RegisteredEndpoint>::key(&place.key())?;
        let transaction = Transaction::new().expect(service, found.service.revision);
        let transaction = match &found.endpoint {
            Some(row) => transaction.expect(key.clone(), row.revision),
            None => transaction.expect_absent(key.clone()),
        };
        let transaction = match after {
            Some(after) => Table::put(transaction, &place.key(), after, None)?,
            None => transaction.delete(key),
        };
        services.catalogue.store.commit(transaction).await
    };
    match outcome.await {
        Ok(Outcome::Committed(revision)) => Ok(Some(revision)),
        Ok(Outcome::Conflict { .. }) => Ok(None),
        Err(error) => Err(failed(services, error.into()).await),
    }
}

fn told(service: &Service, revision: u64, unchanged: bool) -> Written {
    let vips = service.vips().iter().collect();
    Written { service: service.name.clone(), revision, unchanged, vips, problems: Vec::new() }
}

/// Flows to a virtual address would go round in circles.
fn ensure_no_vip(services: &Services, address: IpAddr) -> Result<(), Refused> {
    match services.catalogue.service_ranges.iter().find(|range| range.contains(address)) {
        None => Ok(()),
        Some(range) => {
            let why = format!(
                "{address} is in {range}, where virtual addresses come from: add the endpoints of that service themselves"
            );
            Err(refused(StatusCode::BAD_REQUEST, why))
        }
    }
}

/// Containers serve by their labels alone.
async fn ensure_no_container(services: &Services, place: &Place) -> Result<(), Refused> {
    let Place { service, address } = place;
    let Some(view) = asked(services, |told| Ask::Service(service.clone(), told)).await? else {
        return Ok(());
    };
    if view.deployment.service.vips().iter().any(|vip| vip == *address) {
        let why =
            format!("{address} is the virtual address of service {service} itself: add another address");
        return Err(refused(StatusCode::BAD_REQUEST, why));
    }
    let endpoint = view.endpoints.into_iter().find(|endpoint| endpoint.address == *address);
    match endpoint.map(|endpoint| endpoint.origin) {
        Some(Origin::Container(id)) => {
            let why = format!(
                "{address} is container {}, which serves by its labels: change the selector of service {service}, or stop the container",
                id.container
            );
            Err(refused(StatusCode::CONFLICT, why))
        }
        Some(Origin::Added) | None => Ok(()),
    }
}

fn not_there(Place { service, address }: &Place) -> Refused {
    let why = format!(
        "nobody added an endpoint {address} to service {service}, or it was removed: `zeugma endpoint ls {service}` lists them"
    );
    refused(StatusCode::NOT_FOUND, why)
}
