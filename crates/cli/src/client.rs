//! Asks the agent on its socket. What is asked and answered is `zeugma-api`'s.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderName};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;
use zeugma_api::Failure;
use zeugma_journal::run_dir;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(35);
/// How long it may take when the agent waits for news: more than the agent does.
const PATIENCE_FOR_NEWS: Duration = Duration::from_secs(45);
/// Bytes of an answer: a dump of 100,000 names is about a sixth of it.
const LONGEST: usize = 256 << 20;

/// One question without a body and its answer.
///
/// # Errors
/// No agent, or its refusal in its own words.
pub(crate) fn ask<T: DeserializeOwned>(method: Method, path: &str) -> Result<T> {
    Question::new(method, path).answer()
}

/// What the agent is asked.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    method: Method,
    path: String,
    body: String,
    condition: Option<(HeaderName, String)>,
    patience: Duration,
}

/// The agent's no, in its own words.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Refusal {
    status: StatusCode,
    error: String,
}

impl Refusal {
    /// Whether `error` says that what was asked for is not there.
    pub(crate) fn is_absence(error: &anyhow::Error) -> bool {
        Self::is(error, StatusCode::NOT_FOUND)
    }

    /// Whether `error` says that somebody else was faster.
    pub(crate) fn is_overtaken(error: &anyhow::Error) -> bool {
        Self::is(error, StatusCode::PRECONDITION_FAILED)
    }

    fn is(error: &anyhow::Error, status: StatusCode) -> bool {
        error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.status == status)
    }
}

impl Question {
    /// Without a body.
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        let (path, body) = (path.into(), String::new());
        Self { method, path, body, condition: None, patience: PATIENCE }
    }

    /// To read.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// To write.
    ///
    /// # Errors
    /// When the body is nothing that JSON has.
    pub(crate) fn put(path: impl Into<String>, body: &impl Serialize) -> Result<Self> {
        Ok(Self { body: serde_json::to_string(body)?, ..Self::new(Method::PUT, path) })
    }

    /// Refused when there is one already.
    pub(crate) fn only_new(self) -> Self {
        Self { condition: Some((header::IF_NONE_MATCH, "*".into())), ..self }
    }

    /// Refused when somebody wrote it after this revision.
    pub(crate) fn only_at(self, revision: u64) -> Self {
        Self { condition: Some((header::IF_MATCH, revision.to_string())), ..self }
    }

    /// Answered once something is newer than `revision`, or after a while.
    pub(crate) fn after(self, revision: u64) -> Self {
        let and = if self.path.contains('?') { '&' } else { '?' };
        let path = format!("{}{and}after={revision}", self.path);
        Self { path, patience: PATIENCE_FOR_NEWS, ..self }
    }

    /// The answer.
    ///
    /// # Errors
    /// No agent, or its [`Refusal`].
    pub(crate) fn answer<T: DeserializeOwned>(&self) -> Result<T> {
        self.answer_at().map(|(answer, _)| answer)
    }

    /// The answer, and the revision that it is of, to ask for what comes after it.
    ///
    /// # Errors
    /// As [`Question::answer`].
    pub(crate) fn answer_at<T: DeserializeOwned>(&self) -> Result<(T, u64)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let socket = run_dir().join(zeugma_api::SOCKET);
        let answer = runtime.block_on(async { timeout(self.patience, self.exchange(&socket)).await });
        let patience = self.patience;
        let answer =
            answer.with_context(|| format!("the agent gave no answer within {patience:?}: see its log"))?;
        let Answer { status, revision, body } = answer?;
        if status == StatusCode::OK {
            let answer = serde_json::from_slice(&body)
                .context("the agent's answer is none that this zeugma knows: have both of one version")?;
            return Ok((answer, revision));
        }
        match serde_json::from_slice::<Failure>(&body) {
            Ok(Failure { error }) => Err(Refusal { status, error }.into()),
            Err(_) => bail!("the agent says {status}: have the agent and this zeugma of one version"),
        }
    }

    async fn exchange(&self, socket: &Path) -> Result<Answer> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(connected(socket).await?)).await?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(&self.method)
            .uri(&self.path)
            .header(header::HOST, "agent")
            .header(header::CONTENT_TYPE, "application/json");
        if let Some((header, value)) = &self.condition {
            request = request.header(header, value);
        }
        let request = request.body(self.body.clone())?;
        let response = sender.send_request(request).await.context("the agent broke off: see its log")?;
        let revision = response.headers().get(zeugma_api::REVISION).and_then(|text| text.to_str().ok());
        let revision = revision.and_then(|text| text.parse().ok()).unwrap_or_default();
        Ok(Answer { status: response.status(), revision, body: whole(response.into_body()).await? })
    }
}

struct Answer {
    status: StatusCode,
    revision: u64,
    body: Vec<u8>,
}

async fn connected(socket: &Path) -> Result<UnixStream> {
    UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => anyhow::anyhow!(
            "no agent runs on this host (nobody is at {}): start it with `zeugma agent`",
            socket.display()
        ),
        ErrorKind::PermissionDenied => {
            anyhow::anyhow!("only root may ask the agent at {}: use sudo", socket.display())
        }
        _ => anyhow::Error::from(error).context(format!("cannot reach the agent at {}", socket.display())),
    })
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

/// A path of `zeugma-api` with `{…}` filled in, each in turn.
pub(crate) fn filled(path: &str, values: &[&str]) -> String {
    let mut values = values.iter();
    let parts = path.split_inclusive('/').map(|part| match part.strip_prefix('{') {
        Some(_) => {
            let value = quoted(values.next().copied().unwrap_or_default());
            if part.ends_with('/') { value + "/" } else { value }
        }
        None => part.to_owned(),
    });
    parts.collect()
}

/// A value for a path or a query: everything but letters, digits and `-._~` as `%XX` (RFC 3986, 2.1).
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

    #[test]
    fn paths_are_filled_in_order() {
        let path = filled(zeugma_api::SERVICE_ENDPOINT, &["web", "fd00::2"]);
        assert_eq!(path, "/v1/services/web/endpoints/fd00%3A%3A2");
        assert_eq!(filled(zeugma_api::SERVICE_ROLLBACK, &["a/b"]), "/v1/services/a%2Fb/rollback");
    }

    #[test]
    fn a_question_for_news_says_after_what() {
        assert_eq!(Question::get("/v1/services").after(7).path, "/v1/services?after=7");
    }
}
