//! How etcd is reached: addresses, certificates, credentials, times. Text becomes checked values here.

use std::fmt;
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};

use crate::Error;

/// How often a connection with open streams is probed, and how long the answer may take. More often than every five
/// seconds etcd takes for an attack.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// Where etcd is and how to talk to it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// URLs of members: `http://10.0.0.1:2379`, or `https://…` for all of them. One that answers is kept, the next
    /// is tried when it does not.
    pub endpoints: Vec<String>,
    /// What all keys begin with, so that several clusters can share one etcd. Default: `/zeugma/`.
    pub prefix: String,
    /// Certificates, for `https`. Default: none.
    pub tls: Option<Tls>,
    /// Credentials of etcd's own. Default: none.
    pub user: Option<User>,
    /// How long one member may take for an answer. Default: 5 seconds.
    pub timeout: Duration,
    /// How often is looked whether etcd answers, while it does. Default: 10 seconds.
    pub probe: Duration,
}

/// Certificates in PEM.
#[derive(Clone)]
pub struct Tls {
    /// Of the authority that signed the members' certificates.
    pub authority: Vec<u8>,
    /// What we prove ourselves with, when etcd asks for it.
    pub identity: Option<ClientIdentity>,
    /// The name in the members' certificates, when it is not the host of the URL.
    pub server_name: Option<String>,
}

/// A client certificate with its private key, in PEM.
#[derive(Clone)]
pub struct ClientIdentity {
    /// The certificate, with those between it and the authority's.
    pub certificate: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
}

/// A user of etcd.
#[derive(Clone)]
pub struct User {
    /// Name.
    pub name: String,
    /// Password.
    pub password: String,
}

impl Settings {
    /// Plain defaults for these endpoints.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Settings {
        Settings {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            prefix: "/zeugma/".to_owned(),
            tls: None,
            user: None,
            timeout: Duration::from_secs(5),
            probe: Duration::from_secs(10),
        }
    }

    /// Whether it all makes sense together.
    pub(super) fn check(&self) -> Result<(), Error> {
        let wrong = |option, why: &str| Err(Error::Settings { option, why: why.to_owned() });
        let all = |scheme: &str| self.endpoints.iter().all(|url| url.starts_with(scheme));
        match &self.tls {
            _ if self.endpoints.is_empty() => wrong("endpoints", "there is none; give at least one URL"),
            None if !all("http://") => {
                wrong("endpoints", "without certificates each has to be http://HOST:PORT")
            }
            Some(_) if !all("https://") => {
                wrong("endpoints", "with certificates each has to be https://HOST:PORT")
            }
            _ if !self.prefix.ends_with('/') => wrong("prefix", "it has to end in a slash, as /zeugma/ does"),
            _ => Ok(()),
        }
    }

    /// The same for the client library.
    pub(super) fn options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.timeout)
            .with_keep_alive(PING.0, PING.1)
            .with_keep_alive_while_idle(false)
            // A member that is cut off from the others must not answer with what it remembers.
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some(tls) = &self.tls {
            options = options.with_tls(tls.options());
        }
        if let Some(User { name, password }) = &self.user {
            options = options.with_user(name, password);
        }
        options
    }
}

impl Tls {
    fn options(&self) -> TlsOptions {
        let mut options = TlsOptions::new().ca_certificate(Certificate::from_pem(&self.authority));
        if let Some(ClientIdentity { certificate, key }) = &self.identity {
            options = options.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &self.server_name {
            options = options.domain_name(name);
        }
        options
    }
}

/// Without keys: settings are logged.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Tls");
        shown.field("identity", &self.identity.is_some()).field("server_name", &self.server_name);
        shown.finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").finish_non_exhaustive()
    }
}

/// Without the password.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Settings), expected: &str) {
        let mut settings = Settings::new(["https://a:2379", "https://b:2379"]);
        settings.tls = Some(Tls { authority: vec![], identity: None, server_name: None });
        change(&mut settings);
        let said = settings.check().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{said}");
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        check(|_| {}, "");
        check(|settings| settings.endpoints.clear(), "at least one URL");
        check(|settings| settings.endpoints[1] = "http://b:2379".into(), "https://HOST:PORT");
        check(|settings| settings.tls = None, "http://HOST:PORT");
        check(|settings| settings.prefix = "/zeugma".into(), "has to end in a slash");
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut settings = Settings::new(["https://a:2379"]);
        settings.user = Some(User { name: "zeugma".into(), password: "hunter2".into() });
        let identity = ClientIdentity { certificate: b"hunter2".into(), key: b"hunter2".into() };
        settings.tls = Some(Tls { authority: vec![], identity: Some(identity), server_name: None });
        let shown = format!("{settings:?}");
        assert!(shown.contains("zeugma") && !shown.contains("hunter2") && !shown.contains("104"), "{shown}");
    }
}
