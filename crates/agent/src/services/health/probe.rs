//! One question to one endpoint.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use zeugma_model::Probe;

/// Bytes of an answer's body that are read, so that the endpoint may end the connection by itself.
const BODY: usize = 64 << 10;

/// Whether the endpoint answers as it should; else in which words it did not. The caller's patience bounds it.
pub(super) async fn ask(address: IpAddr, probe: &Probe) -> Result<(), String> {
    let answer = match probe {
        Probe::Tcp { port } => TcpStream::connect(SocketAddr::new(address, port.get())).await,
        Probe::Http { port, path } => return got(SocketAddr::new(address, port.get()), path).await,
    };
    let stream = answer.map_err(|error| format!("{}: {error}", named(probe)))?;
    // A reset leaves nothing behind; a connection that is closed stays for a minute.
    stream.set_zero_linger().map_err(|error| format!("{}: {error}", named(probe)))
}

/// The question in words.
pub(super) fn named(probe: &Probe) -> String {
    match probe {
        Probe::Tcp { port } => format!("TCP port {port}"),
        Probe::Http { port, path } => format!("GET :{port}{path}"),
    }
}

async fn got(from: SocketAddr, path: &str) -> Result<(), String> {
    let words = |error: &dyn std::fmt::Display| format!("GET :{}{path}: {error}", from.port());
    let request = Request::get(path)
        .header(HOST, from.to_string())
        .header(USER_AGENT, "zeugma-health")
        .header(CONNECTION, "close")
        .body(String::new())
        .map_err(|error| words(&error))?;
    let stream = TcpStream::connect(from).await.map_err(|error| words(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| words(&error))?;
    // Ends with this question, whether it is answered or not.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response: Response<Incoming> = sender.send_request(request).await.map_err(|error| words(&error))?;
    let status: StatusCode = response.status();
    if status.as_u16() >= 400 {
        return Err(words(&format_args!("status {status}")));
    }
    read_away(response.into_body()).await;
    Ok(())
}

/// What it says has no meaning, nor whether it says all of it.
async fn read_away(mut body: Incoming) {
    let mut left = BODY;
    while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let read = frame.into_data().map_or(0, |data| data.len());
        match left.checked_sub(read) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
