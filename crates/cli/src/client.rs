//! Asks the agent on its socket. What is asked and answered is `zeugma-api`'s.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;
use zeugma_api::Failure;
use zeugma_journal::run_dir;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of an answer: a dump of 100,000 names is about a sixth of it.
const LONGEST: usize = 256 << 20;

/// One question and its answer.
///
/// # Errors
/// No agent, or its refusal in its own words.
pub(crate) fn ask<T: DeserializeOwned>(method: Method, path: &str) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let socket = run_dir().join(zeugma_api::SOCKET);
    let answer = runtime.block_on(async { timeout(PATIENCE, exchange(&socket, method, path)).await });
    let answer =
        answer.with_context(|| format!("the agent gave no answer within {PATIENCE:?}: see its log"))?;
    let (status, body) = answer?;
    if status == StatusCode::OK {
        return serde_json::from_slice(&body)
            .context("the agent's answer is none that this zeugma knows: have both of one version");
    }
    match serde_json::from_slice::<Failure>(&body) {
        Ok(failure) => bail!("{}", failure.error),
        Err(_) => bail!("the agent says {status}: have the agent and this zeugma of one version"),
    }
}

async fn exchange(socket: &Path, method: Method, path: &str) -> Result<(StatusCode, Vec<u8>)> {
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                bail!(
                    "no agent runs on this host (nobody is at {}): start it with `zeugma agent`",
                    socket.display()
                )
            }
            ErrorKind::PermissionDenied => {
                bail!("only root may ask the agent at {}: use sudo", socket.display())
            }
            _ => {
                return Err(error).with_context(|| format!("cannot reach the agent at {}", socket.display()));
            }
        },
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request =
        Request::builder().method(method).uri(path).header(header::HOST, "agent").body(String::new())?;
    let response = sender.send_request(request).await.context("the agent broke off: see its log")?;
    Ok((response.status(), whole(response.into_body()).await?))
}

async fn whole(body: Incoming) -> Result<Vec<u8>> {
    let (mut body, mut bytes) = (pin!(body), Vec::new());
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        if let Ok(data) = frame.context("the agent broke off: see its log")?.into_data() {
            bytes.extend_from_slice(&data);
        }
        ensure!(bytes.len() <= LONGEST, "the agent's answer is longer than {LONGEST} bytes: not read");
    }
    Ok(bytes)
}

/// A value for a query string: everything but letters, digits and `-._~` as `%XX` (RFC 3986, 2.1).
pub(crate) fn quoted(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_for_the_query() {
        assert_eq!(quoted("my_db.blue"), "my_db.blue");
        assert_eq!(quoted("a b&c=d/\u{e4}"), "a%20b%26c%3Dd%2F%C3%A4");
    }
}
