//! The whole course of a call as one function: environment and standard input in, answer out.

use serde_json::Value;
use zeugma_protocol::{CniCode, DecodeError, ErrorObject, NetConf, UnknownVersion, Version, version_answer};

use crate::env::Attached;
use crate::{CniArgs, Command, Env, NetworkRequest, Plugin, Request, SkelError};

/// The release of the reference plugins whose options are all understood.
const REFERENCE_LEVEL: &str = "v1.9.1";

/// What a process leaves behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// The protocol's: a result, an error object, or nothing.
    pub stdout: Vec<u8>,
    /// For people.
    pub stderr: Vec<u8>,
    /// 0, or 1 with an error object.
    pub exit: u8,
}

/// Answers a call.
pub fn respond<P: Plugin>(env: &Env, stdin: &[u8], plugin: &P) -> Response {
    let supported = Version::since(P::OLDEST);
    match env.command.as_str() {
        "" => Response::about::<P>(),
        "VERSION" => Response::success(Some(&version_answer(stdin, supported))),
        text => match Command::named(text) {
            Some(command) => act(command, env, stdin, plugin),
            None => Response::failure(None, &SkelError::UnknownCommand(text.into())),
        },
    }
}

/// Answers `--dry-run`, for a person.
pub fn rehearse<P: Plugin>(env: &Env, stdin: &[u8], plugin: &P) -> Response {
    let or = |value: &str, example: &str| {
        if value.is_empty() { example.into() } else { value.to_owned() }
    };
    let mut env = Env {
        container: or(&env.container, "example"),
        ifname: or(&env.ifname, "eth0"),
        path: if env.path.is_empty() { "/opt/cni/bin".into() } else { env.path.clone() },
        ..env.clone()
    };
    if env.netns.is_empty() {
        env.netns = "/run/netns/example".into();
    }
    let request = match attachment_request::<P>(Command::Add, &env, stdin) {
        Ok(request) => request,
        Err(failure) => return Response::complaint::<P>(&failure.error),
    };
    match plugin.dry_run(&request) {
        Ok(text) => Response { stdout: text.into_bytes(), ..Response::default() },
        Err(error) => Response::complaint::<P>(&error),
    }
}

/// An error from before the plugin, with the configuration's version as far as it is known.
struct Failure {
    version: Option<Version>,
    error: SkelError,
}

impl<E: Into<SkelError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { version: None, error: error.into() }
    }
}

fn act<P: Plugin>(command: Command, env: &Env, stdin: &[u8], plugin: &P) -> Response {
    let answer = match command {
        Command::Add | Command::Del | Command::Check => attachment_request::<P>(command, env, stdin)
            .map(|request| attach(command, env.own_netns, request, plugin)),
        Command::Gc | Command::Status => network_request::<P>(command, env, stdin).map(|request| {
            let done = if command == Command::Gc { plugin.gc(&request) } else { plugin.status(&request) };
            Response::of(request.conf.cni_version, &done)
        }),
    };
    answer.unwrap_or_else(|failure| Response::failure(failure.version, &failure.error))
}

/// The own namespace is refused before an ADD touches anything. A DEL still releases what it can without
/// the namespace: the path may be that of a process whose number was given to another.
fn attach<P: Plugin>(command: Command, own_netns: bool, mut request: Request, plugin: &P) -> Response {
    let version = request.conf.cni_version;
    match command {
        Command::Add if own_netns => Response::failure(Some(version), &SkelError::OwnNetns),
        Command::Add => add(&request, plugin),
        Command::Del if own_netns => {
            request.netns = None;
            match plugin.del(&request) {
                Ok(()) => Response::failure(Some(version), &SkelError::OwnNetns),
                Err(error) => Response::failure(Some(version), &error),
            }
        }
        Command::Del => Response::of(version, &plugin.del(&request)),
        Command::Check | Command::Gc | Command::Status => Response::of(version, &plugin.check(&request)),
    }
}

/// A result that the configuration's version cannot express is an ADD that failed: it is undone.
fn add<P: Plugin>(request: &Request, plugin: &P) -> Response {
    let version = request.conf.cni_version;
    let result = match plugin.add(request) {
        Ok(result) => result,
        Err(error) => return Response::failure(Some(version), &error),
    };
    match result.to_json(version) {
        Ok(json) => Response::success(Some(&json)),
        Err(error) => {
            let mut response = Response::failure(Some(version), &error);
            if let Err(error) = plugin.del(request) {
                response.stderr = format!("{}: undoing ADD: {error}\n", P::NAME).into_bytes();
            }
            response
        }
    }
}

fn attachment_request<P: Plugin>(command: Command, env: &Env, stdin: &[u8]) -> Result<Request, Failure> {
    let Attached { container, ifname, netns, path } = env.attached(command)?;
    let args = match CniArgs::parse(&env.args) {
        Err(_) if command == Command::Del => CniArgs::default(),
        args => args.map_err(SkelError::from)?,
    };
    let conf = conf::<P>(command, stdin)?;
    Ok(Request { conf, container, netns, ifname, args, path, stdin: stdin.to_vec() })
}

fn network_request<P: Plugin>(command: Command, env: &Env, stdin: &[u8]) -> Result<NetworkRequest, Failure> {
    let path = env.network()?;
    let conf = conf::<P>(command, stdin)?;
    Ok(NetworkRequest { conf, path, stdin: stdin.to_vec() })
}

/// The configuration, if the plugin serves its version and the version has the verb.
fn conf<P: Plugin>(command: Command, stdin: &[u8]) -> Result<NetConf, Failure> {
    let supported = Version::since(P::OLDEST);
    let parse = if command == Command::Del { NetConf::parse_for_del } else { NetConf::parse };
    let conf = parse(stdin).map_err(|error| match error {
        DecodeError::Version(UnknownVersion(config)) => SkelError::Incompatible { config, supported },
        other => SkelError::Conf(other),
    })?;
    let version = conf.cni_version;
    let refused = |error| Err(Failure { version: Some(version), error });
    if version < command.since() {
        return refused(SkelError::TooOld { command, config: version });
    }
    if version < P::OLDEST {
        return refused(SkelError::Incompatible { config: version.to_string(), supported });
    }
    Ok(conf)
}

impl Response {
    /// An error object on standard output.
    pub fn failure(version: Option<Version>, error: &impl CniCode) -> Self {
        Self { stdout: line(&ErrorObject::new(version, error).to_json()), stderr: Vec::new(), exit: 1 }
    }

    /// An error in words on standard error.
    pub fn complaint<P: Plugin>(error: &impl CniCode) -> Self {
        let ErrorObject { code, msg, details, .. } = ErrorObject::new(None, error);
        let details = if details.is_empty() { details } else { format!(" ({details})") };
        let text = format!("{}: {msg}{details} [code {}]\n", P::NAME, code.number());
        Self { stdout: Vec::new(), stderr: text.into_bytes(), exit: 1 }
    }

    fn success(json: Option<&Value>) -> Self {
        Self { stdout: json.map(line).unwrap_or_default(), ..Self::default() }
    }

    fn of(version: Version, done: &Result<(), impl CniCode>) -> Self {
        match done {
            Ok(()) => Self::success(None),
            Err(error) => Self::failure(Some(version), error),
        }
    }

    /// What a person sees who starts a plugin by hand. nerdctl reads it, too: below `v1.1.0` behind `plugin` it
    /// leaves `ingressPolicy` away.
    fn about<P: Plugin>() -> Self {
        let versions: Vec<&str> = Version::since(P::OLDEST).iter().map(|version| version.as_str()).collect();
        let text = format!(
            "CNI {} plugin {REFERENCE_LEVEL}+zeugma.{}\nCNI protocol versions supported: {}\n",
            P::NAME,
            env!("CARGO_PKG_VERSION"),
            versions.join(", "),
        );
        Self { stderr: text.into_bytes(), ..Self::default() }
    }
}

fn line(json: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec(json).expect("a JSON value is JSON");
    text.push(b'\n');
    text
}
