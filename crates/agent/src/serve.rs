//! HTTP/1.1 connections: how many, how long, how large. What is said on them is `api`'s and `metrics`'.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::api::refused;
use crate::socket::ApiSocket;

/// Connections at once; further ones wait to be accepted.
const CONNECTIONS: usize = 64;
/// How long a request's head may take, and how long a connection may be idle.
const HEAD: Duration = Duration::from_secs(5);
/// How long an answer may take: longer than all that a request waits for together, each with an end of its own. That
/// is the catalogue (5 s a question), then the list of a network (10 s) or the kernel (5 s, twice when an endpoint leaves
/// at once). Who wrote something is never told that it was not.
const ANSWER: Duration = Duration::from_secs(30);
/// How long one may take that is asked for when there is something new.
const NEWS: Duration = Duration::from_secs(40);
/// The longest that any connection stays.
const CONNECTION: Duration = Duration::from_secs(300);
/// Bytes of a request's body: the largest is a service with its ports, labels and selector.
const BODY: usize = 64 << 10;
/// Bytes of a request's head.
const HEAD_BYTES: usize = 16 << 10;
/// Before the next try when connections cannot be accepted or an address is taken.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves the API.
pub(crate) async fn local(socket: ApiSocket, router: Router) {
    let (router, limit) = (bounded(router), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let Some(permit) = next(&limit).await else { return };
        match socket.accept().await {
            Ok(stream) => drop(tokio::spawn(connection(stream, router.clone(), permit))),
            Err(error) => paused(error).await,
        }
    }
}

/// Serves metrics and health. When the address is taken, everything else works, and it is tried again.
pub(crate) async fn loopback(address: SocketAddr, router: Router) {
    let (router, limit) = (bounded(router), Arc::new(Semaphore::new(CONNECTIONS)));
    let listener = bound(address).await;
    loop {
        let Some(permit) = next(&limit).await else { return };
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, router.clone(), permit))),
            Err(error) => paused(error).await,
        }
    }
}

async fn bound(address: SocketAddr) -> TcpListener {
    let mut told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!(%address, "metrics and health are served");
                return listener;
            }
            Err(error) if !told => {
                tracing::warn!(%address, %error, "no metrics yet: the address is tried again; --listen-metrics names another");
                told = true;
            }
            Err(_) => {}
        }
        sleep(PAUSE).await;
    }
}

async fn next(limit: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    limit.clone().acquire_owned().await.ok()
}

async fn paused(error: io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    sleep(PAUSE).await;
}

fn bounded(router: Router) -> Router {
    router.layer(DefaultBodyLimit::max(BODY)).layer(middleware::from_fn(in_time))
}

async fn in_time(request: Request, next: Next) -> Response {
    let late =
        |_| refused(hyper::StatusCode::SERVICE_UNAVAILABLE, "no answer in time: try again").into_response();
    let waits = request.uri().query().is_some_and(|query| query.contains("after="));
    timeout(if waits { NEWS } else { ANSWER }, next.run(request)).await.unwrap_or_else(late)
}

async fn connection<S>(stream: S, router: Router, _permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Ok(Err(error)) = timeout(CONNECTION, served).await {
        tracing::debug!(%error, "a connection ended");
    }
}
