//! Who of the members is asked, and what a failure means: whether to ask the next, and what the caller may believe.
//!
//! The client library can spread requests over members itself, but goes on spreading them over those that are dead.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::Client;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tonic::{Code, ConnectError, Status};

use super::settings::Settings;
use crate::{Cause, Error};

/// The members, one of them in use.
pub(super) struct Members {
    settings: Settings,
    /// A connection per endpoint, once it was needed.
    clients: Vec<Mutex<Option<Client>>>,
    current: AtomicUsize,
}

/// What happens when a request is sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// The same as once.
    Harmless,
    /// Something else: it may only be sent again when it was certainly not received.
    Harmful,
}

/// Why a request was not answered.
#[derive(Debug)]
pub(super) enum Failure {
    /// A member answered: no.
    Refused { endpoint: String, source: Cause },
    /// No member took it.
    Unavailable { endpoint: String, source: Cause },
    /// A member may have taken it.
    Unacknowledged { endpoint: String, source: Cause },
}

impl Failure {
    /// The error of whoever wanted `subject`.
    pub(super) fn of(self, subject: impl Into<String>) -> Error {
        let (Failure::Refused { endpoint, source }
        | Failure::Unavailable { endpoint, source }
        | Failure::Unacknowledged { endpoint, source }) = &self;
        let (subject, store) = (subject.into(), format!("etcd at {endpoint}"));
        let source = in_short(source).into();
        match self {
            Failure::Refused { .. } => Error::Refused { subject, store, source },
            Failure::Unavailable { .. } => Error::Unavailable { subject, store, source },
            Failure::Unacknowledged { .. } => Error::Unacknowledged { subject, store, source },
        }
    }

    /// Whether a member answered with this gRPC code.
    pub(super) fn is(&self, code: Code) -> bool {
        let Failure::Refused { source, .. } = self else { return false };
        matches!(source.downcast_ref(), Some(etcd_client::Error::GRpcStatus(status)) if status.code() == code)
    }
}

/// What one member's failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It did not get the request, or did not begin with it.
    NotTaken,
    /// It does not know us any more; a new connection introduces us again.
    Forgotten,
    /// It may have done it.
    Unknown,
    /// It may be doing it.
    Late,
    /// It answered.
    Refused,
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Members {
    pub(super) fn new(settings: Settings) -> Members {
        let clients = settings.endpoints.iter().map(|_| Mutex::default()).collect();
        Members { settings, clients, current: AtomicUsize::new(0) }
    }

    /// Asks the member in use, then the others, until one answers.
    pub(super) async fn ask<T, F>(&self, repeat: Repeat, request: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let (count, first) = (self.clients.len(), self.current.load(Ordering::Relaxed));
        let mut last = None;
        // The member in use has a second chance at the end: only its connection may have been dead.
        for index in (first..=first + count).map(|index| index % count) {
            let (verdict, source) = match self.ask_one(index, &request).await {
                Ok(answer) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            let endpoint = self.settings.endpoints[index].clone();
            match verdict {
                Verdict::Refused => return Err(Failure::Refused { endpoint, source }),
                Verdict::Unknown | Verdict::Late if repeat == Repeat::Harmful => {
                    return Err(Failure::Unacknowledged { endpoint, source });
                }
                // Waiting for it once more would not make it quicker.
                Verdict::Late if count == 1 => return Err(Failure::Unavailable { endpoint, source }),
                _ => last.get_or_insert(Failure::Unavailable { endpoint, source }),
            };
        }
        Err(last.expect("there is at least one endpoint: Settings::check"))
    }

    async fn ask_one<T, F>(&self, index: usize, request: impl Fn(Client) -> F) -> Result<T, (Verdict, Cause)>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let limit = self.settings.timeout;
        let client = match timeout(limit, self.client(index)).await {
            Ok(Ok(client)) => client,
            // Connecting with a user asks for a token: a refusal there is an answer.
            Ok(Err(error)) if verdict(&error) == Verdict::Refused => {
                return Err((Verdict::Refused, error.into()));
            }
            Ok(Err(error)) => return Err((Verdict::NotTaken, error.into())),
            Err(_) => return Err((Verdict::NotTaken, late(limit))),
        };
        match timeout(limit, request(client)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let verdict = verdict(&error);
                if verdict == Verdict::Forgotten {
                    self.forget(index).await;
                }
                Err((verdict, error.into()))
            }
            Err(_) => Err((Verdict::Late, late(limit))),
        }
    }

    async fn client(&self, index: usize) -> Result<Client, etcd_client::Error> {
        let mut client = self.clients[index].lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let new = Client::connect([&self.settings.endpoints[index]], Some(self.settings.options())).await?;
        Ok(client.insert(new).clone())
    }

    /// Drops a connection: the next request makes a new one, and with it a new token.
    async fn forget(&self, index: usize) {
        *self.clients[index].lock().await = None;
    }
}

/// What was said, and what is behind it: `tcp connect error: Connection refused (os error 111)`. The library's own
/// text is a dump of its structures.
fn in_short(cause: &Cause) -> String {
    let Some(etcd_client::Error::GRpcStatus(status)) = cause.downcast_ref() else { return cause.to_string() };
    let behind = sources(status).last().map(ToString::to_string);
    match behind.filter(|behind| behind != status.message()) {
        Some(behind) => format!("{}: {behind}", status.message()),
        None => status.message().to_owned(),
    }
}

fn sources(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(status), |cause| cause.source())
}

fn late(limit: Duration) -> Cause {
    format!("no answer within {} s", limit.as_secs_f32()).into()
}

fn verdict(error: &etcd_client::Error) -> Verdict {
    use etcd_client::Error as E;
    match error {
        E::GRpcStatus(status) => verdict_on(status),
        E::TransportError(_) => Verdict::NotTaken,
        E::IoError(_) | E::WatchError(_) | E::LeaseKeepAliveError(_) | E::ElectError(_) | E::Internal(_) => {
            Verdict::Unknown
        }
        E::InvalidArgs(_)
        | E::InvalidUri(_)
        | E::Utf8Error(_)
        | E::InvalidMetadataValue(_)
        | E::EndpointError(_)
        | E::EndpointsNotManaged => Verdict::Refused,
    }
}

fn verdict_on(status: &Status) -> Verdict {
    // etcd's own words, of api/v3rpc/rpctypes/error.go: the codes alone do not tell these from others. A token with
    // a signature is old once anybody's rights have changed; one that has run out the library itself gets anew.
    const OLD_TOKEN: &str = "etcdserver: revision of auth store is old";
    const NO_LEADER: &str = "etcdserver: no leader";
    match status.code() {
        Code::Unavailable if was_not_sent(status) || status.message() == NO_LEADER => Verdict::NotTaken,
        Code::InvalidArgument if status.message() == OLD_TOKEN => Verdict::Forgotten,
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unknown
        | Code::Internal
        | Code::Aborted => Verdict::Unknown,
        _ => Verdict::Refused,
    }
}

/// Whether there was no connection to send it on.
fn was_not_sent(status: &Status) -> bool {
    sources(status).any(|cause| cause.is::<ConnectError>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: Status, expected: Verdict) {
        assert_eq!(verdict_on(&status), expected, "{status:?}");
    }

    #[test]
    fn only_what_was_certainly_not_taken_counts_as_that() {
        check(Status::unavailable("etcdserver: no leader"), Verdict::NotTaken);
        check(Status::from_error(Box::new(ConnectError("refused".into()))), Verdict::NotTaken);
        check(Status::unavailable("etcdserver: request timed out"), Verdict::Unknown);
        check(Status::unknown("transport error"), Verdict::Unknown);
        check(Status::permission_denied("etcdserver: permission denied"), Verdict::Refused);
        check(Status::not_found("etcdserver: requested lease not found"), Verdict::Refused);
        check(Status::unauthenticated("etcdserver: invalid auth token"), Verdict::Refused);
        check(Status::invalid_argument("etcdserver: revision of auth store is old"), Verdict::Forgotten);
    }
}
