//! Words of the command line that stand for parts of a service: ports, health checks, times, labels.

use std::num::{NonZeroU16, NonZeroU32};

use zeugma_model::{Probe, Protocol, PublishScope, PublishedPort, ServicePort};

/// Why a word was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WordError {
    #[error("{0:?} is no port: take 1 to 65535")]
    Port(String),
    #[error(transparent)]
    Protocol(#[from] zeugma_model::ProtocolError),
    #[error("{0:?} names a port with an empty name: write NAME=PORT, or PORT alone")]
    NoName(String),
    #[error(
        "{0:?} is no published port: write HOST:PORT, such as 8080:80, with /udp or ,scope=local behind it"
    )]
    Published(String),
    #[error(
        "{0:?} has an address: a service's port is published on all addresses of a host; leave the address out"
    )]
    Address(String),
    #[error("{word:?} is no part of a published port: there are published, target, protocol and scope")]
    PublishedKey { word: String },
    #[error("{0:?} is no scope: take mesh (every host) or local (hosts with endpoints)")]
    Scope(String),
    #[error("{0:?} is no HTTP check: write PORT/PATH, such as 8080/healthz")]
    Http(String),
    #[error("{0:?} is no time: write seconds, or a number with s, m or h behind it, such as 30s")]
    Seconds(String),
    #[error("{0:?} has to be longer than nothing: take 1s or more")]
    Nothing(String),
    #[error("{0:?} is no label: write KEY=VALUE")]
    Label(String),
}

/// `[NAME=]PORT[:TARGET][/PROTOCOL]`.
pub(crate) fn service_port(word: &str) -> Result<ServicePort, WordError> {
    let (name, rest) = match word.split_once('=') {
        Some(("", _)) => return Err(WordError::NoName(word.into())),
        Some((name, rest)) => (Some(name.to_owned()), rest),
        None => (None, word),
    };
    let (ports, protocol) = with_protocol(rest)?;
    let (service, target) = match ports.split_once(':') {
        Some((service, target)) => (port(service)?, Some(port(target)?)),
        None => (port(ports)?, None),
    };
    Ok(ServicePort { name, port: service, target: target.filter(|target| *target != service), protocol })
}

/// `HOST:PORT[/PROTOCOL][,scope=local]`, or Docker's long form `published=HOST,target=PORT,protocol=…,mode=host`.
pub(crate) fn published_port(word: &str) -> Result<PublishedPort, WordError> {
    let mut parts = word.split(',');
    let (mut host, mut target, mut protocol, mut scope) =
        (None, None, Protocol::Tcp, PublishScope::default());
    if let Some(short) = word.split(',').next().filter(|first| !first.contains('=')) {
        parts.next();
        let (ports, named) = with_protocol(short)?;
        let (first, second) = ports.rsplit_once(':').ok_or_else(|| WordError::Published(word.into()))?;
        if first.contains([':', '.', ']']) {
            return Err(WordError::Address(word.into()));
        }
        (host, target, protocol) = (Some(port(first)?), Some(port(second)?), named);
    }
    for part in parts {
        match part.split_once('=') {
            Some(("published", value)) => host = Some(port(value)?),
            Some(("target", value)) => target = Some(port(value)?),
            Some(("protocol", value)) => protocol = value.parse()?,
            Some(("scope" | "mode", value)) => scope = publish_scope(value)?,
            _ => return Err(WordError::PublishedKey { word: part.into() }),
        }
    }
    match (host, target) {
        (Some(published), Some(port)) => Ok(PublishedPort { published, port, protocol, scope }),
        _ => Err(WordError::Published(word.into())),
    }
}

/// `mesh` and `local`, which Docker calls `ingress` and `host`.
fn publish_scope(word: &str) -> Result<PublishScope, WordError> {
    match word {
        "mesh" | "ingress" => Ok(PublishScope::Mesh),
        "local" | "host" => Ok(PublishScope::Local),
        _ => Err(WordError::Scope(word.into())),
    }
}

/// `PORT`.
pub(crate) fn tcp_check(word: &str) -> Result<Probe, WordError> {
    Ok(Probe::Tcp { port: port(word)? })
}

/// `PORT/PATH`.
pub(crate) fn http_check(word: &str) -> Result<Probe, WordError> {
    let (number, path) = word.split_once('/').ok_or_else(|| WordError::Http(word.into()))?;
    let port = port(number).map_err(|_| WordError::Http(word.into()))?;
    Ok(Probe::Http { port, path: format!("/{path}") })
}

/// `30`, `30s`, `5m`, `1h`.
pub(crate) fn seconds(word: &str) -> Result<u32, WordError> {
    let wrong = || WordError::Seconds(word.into());
    let (number, unit) = match word.char_indices().last() {
        Some((at, 's')) => (&word[..at], 1),
        Some((at, 'm')) => (&word[..at], 60),
        Some((at, 'h')) => (&word[..at], 3600),
        _ => (word, 1),
    };
    let number: u32 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).ok_or_else(wrong)
}

/// The same, and more than nothing.
pub(crate) fn some_seconds(word: &str) -> Result<NonZeroU32, WordError> {
    NonZeroU32::new(seconds(word)?).ok_or_else(|| WordError::Nothing(word.into()))
}

/// `KEY=VALUE`.
pub(crate) fn label(word: &str) -> Result<(String, String), WordError> {
    match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(WordError::Label(word.into())),
    }
}

fn with_protocol(word: &str) -> Result<(&str, Protocol), WordError> {
    Ok(match word.split_once('/') {
        Some((ports, protocol)) => (ports, protocol.parse()?),
        None => (word, Protocol::Tcp),
    })
}

fn port(word: &str) -> Result<NonZeroU16, WordError> {
    // `parse` would take a sign.
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|_| digits).ok_or_else(|| WordError::Port(word.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn is<T: serde::Serialize + std::fmt::Debug>(parsed: Result<T, WordError>, expected: &Value) {
        assert_eq!(&serde_json::to_value(parsed.unwrap()).unwrap(), expected);
    }

    fn refused<T: std::fmt::Debug>(parsed: Result<T, WordError>, words: &str) {
        let error = parsed.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn a_port_has_a_name_a_target_and_a_protocol_or_none_of_them() {
        is(service_port("80"), &json!({"port": 80, "protocol": "tcp"}));
        is(service_port("80:8080"), &json!({"port": 80, "target": 8080, "protocol": "tcp"}));
        is(service_port("53:53/UDP"), &json!({"port": 53, "protocol": "udp"}));
        let full = json!({"name": "http", "port": 80, "target": 8080, "protocol": "sctp"});
        is(service_port("http=80:8080/sctp"), &full);
    }

    #[test]
    fn what_is_no_port_is_named() {
        for (word, why) in [
            ("", "\"\" is no port"),
            ("0", "1 to 65535"),
            ("+80", "\"+80\""),
            ("65536", "\"65536\""),
            ("80:", "\"\" is no port"),
            ("80/icmp", "use tcp, udp or sctp"),
            ("=80", "empty name"),
        ] {
            refused(service_port(word), why);
        }
    }

    #[test]
    fn a_published_port_is_written_as_docker_does() {
        let mesh = json!({"published": 8080, "port": 80, "protocol": "tcp", "scope": "mesh"});
        is(published_port("8080:80"), &mesh);
        is(published_port("published=8080,target=80,mode=ingress"), &mesh);
        let local = json!({"published": 53, "port": 5353, "protocol": "udp", "scope": "local"});
        is(published_port("53:5353/udp,scope=local"), &local);
        is(published_port("published=53,target=5353,protocol=udp,mode=host"), &local);
    }

    #[test]
    fn what_is_no_published_port_is_named() {
        for (word, why) in [
            ("8080", "8080:80"),
            ("published=8080", "HOST:PORT"),
            ("127.0.0.1:8080:80", "leave the address out"),
            ("[::]:8080:80", "leave the address out"),
            ("8080:80,local", "\"local\" is no part"),
            ("8080:80,scope=here", "mesh (every host)"),
            ("8080:0", "\"0\" is no port"),
        ] {
            refused(published_port(word), why);
        }
    }

    #[test]
    fn a_check_is_a_port_or_a_port_with_a_path() {
        is(tcp_check("80"), &json!({"tcp": {"port": 80}}));
        is(http_check("8080/healthz?full=1"), &json!({"http": {"port": 8080, "path": "/healthz?full=1"}}));
        is(http_check("80/"), &json!({"http": {"port": 80, "path": "/"}}));
        refused(http_check("80"), "PORT/PATH");
        refused(http_check("/healthz"), "PORT/PATH");
    }

    #[test]
    fn times_are_seconds_or_have_a_unit() {
        let times = ["0", "30", "30s", "5m", "1h"].map(|word| seconds(word).unwrap());
        assert_eq!(times, [0, 30, 30, 300, 3600]);
        for word in ["", "s", "1d", "-1", "1.5s", "1193047h"] {
            refused(seconds(word), "is no time");
        }
        refused(some_seconds("0s"), "longer than nothing");
    }

    #[test]
    fn a_label_has_a_key_and_maybe_an_empty_value() {
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(label("a="), Ok(("a".into(), String::new())));
        refused(label("a"), "KEY=VALUE");
        refused(label("=a"), "KEY=VALUE");
    }
}
