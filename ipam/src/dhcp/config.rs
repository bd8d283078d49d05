//! The configuration of `dhcp`: what to tell the server and what to ask it for.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use zeugma_protocol::NetConf;
use zeugma_skel::CniArgs;

use super::protocol::Provide;
use super::{DEFAULT_SOCKET, Error};

/// Asked for unless `skipDefault` is set: mask, classless routes, static routes, routers, name servers, domain, search
/// list. RFC 3442 wants 121 before 33 and 3.
const REQUESTED: [u8; 7] = [1, 121, 33, 3, 6, 15, 119];

/// Names of dhcp-options(5), the reference's six among them.
const NAMES: [(&str, u8); 14] = [
    ("subnet-mask", 1),
    ("routers", 3),
    ("domain-name-servers", 6),
    ("host-name", 12),
    ("domain-name", 15),
    ("interface-mtu", 26),
    ("static-routes", 33),
    ("ntp-servers", 42),
    ("dhcp-lease-time", 51),
    ("vendor-class-identifier", 60),
    ("dhcp-client-identifier", 61),
    ("user-class", 77),
    ("domain-search", 119),
    ("rfc3442-classless-static-routes", 121),
];

/// The options that frame a message: pad, message type, end.
const FRAMING: [u8; 3] = [0, 53, 255];
const LONGEST_VALUE: usize = 255;

/// `ipam`, as it stands there.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct IpamRaw {
    /// The daemon's socket. Default `/run/cni/dhcp.sock`.
    daemon_socket_path: Option<PathBuf>,
    /// Options to tell the server, each with `option` (number or name, as text), `value` (text) and `fromArg` (key of
    /// `CNI_ARGS` whose value counts more where it is there). Default: none.
    provide: Option<Vec<ProvideRaw>>,
    /// Options to ask the server for besides 1, 121, 33, 3, 6, 15 and 119, each with `option`; an entry with
    /// `skipDefault` true leaves those out. Default: none.
    request: Option<Vec<RequestRaw>>,
    /// Metric of the routes; 0 leaves it to the kernel. Default 0.
    priority: Option<u32>,
}

/// An entry of `provide`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct ProvideRaw {
    /// Number or name of the option; required.
    option: String,
    /// Text to send, at most 255 bytes; none by default.
    value: Option<String>,
    /// Key of `CNI_ARGS` whose value is sent when it is there; none by default.
    from_arg: Option<String>,
}

/// An entry of `request`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct RequestRaw {
    /// Number or name of the option; none by default.
    option: Option<String>,
    /// Whether the default options are not asked for; false by default.
    skip_default: Option<bool>,
}

/// What an ADD needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) socket: PathBuf,
    pub(super) provide: Vec<Provide>,
    pub(super) request: Vec<u8>,
    pub(super) priority: Option<u32>,
}

impl Config {
    /// Everything; `args` is none where there is no container (STATUS).
    pub(super) fn parse(conf: &NetConf, args: Option<&CniArgs>) -> Result<Self, Error> {
        let raw = of_ipam(conf.ipam.as_ref().ok_or(Error::NoIpam)?)?;
        Ok(Self {
            socket: or_default(raw.daemon_socket_path),
            provide: provided(raw.provide.unwrap_or_default(), args)?,
            request: requested(&raw.request.unwrap_or_default())?,
            priority: raw.priority.filter(|priority| *priority != 0),
        })
    }
}

pub(crate) fn of_ipam(ipam: &Map<String, Value>) -> Result<IpamRaw, Error> {
    decode("ipam", Value::Object(ipam.clone()))
}

/// Every other option may be wrong or missing: DEL and GC need no more than this.
pub(super) fn socket(conf: &NetConf) -> Result<PathBuf, Error> {
    const KEY: &str = "daemonSocketPath";
    let given = conf.ipam.as_ref().and_then(|ipam| ipam.get(KEY)).cloned().unwrap_or(Value::Null);
    let given: Option<PathBuf> = decode(KEY, given)?;
    Ok(or_default(given))
}

fn or_default(socket: Option<PathBuf>) -> PathBuf {
    socket.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| DEFAULT_SOCKET.into())
}

fn decode<T: DeserializeOwned>(key: &'static str, value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|source| Error::Decode { key, source })
}

/// As in the reference an argument counts more than a fixed value: it comes after it.
fn provided(raw: Vec<ProvideRaw>, args: Option<&CniArgs>) -> Result<Vec<Provide>, Error> {
    let mut provided = Vec::new();
    for ProvideRaw { option, value, from_arg } in raw {
        let code = option_code(&option)?;
        if FRAMING.contains(&code) {
            return Err(Error::Framing(option));
        }
        let of_args = from_arg.and_then(|key| args?.get(&key).map(str::to_owned));
        for value in [value.filter(|value| !value.is_empty()), of_args].into_iter().flatten() {
            if value.len() > LONGEST_VALUE {
                return Err(Error::LongValue { option, length: value.len() });
            }
            provided.push(Provide { code, value });
        }
    }
    Ok(provided)
}

fn requested(raw: &[RequestRaw]) -> Result<Vec<u8>, Error> {
    let skips = raw.iter().any(|entry| entry.skip_default == Some(true));
    let mut requested = if skips { Vec::new() } else { REQUESTED.to_vec() };
    for option in raw.iter().filter_map(|entry| entry.option.as_deref()).filter(|text| !text.is_empty()) {
        let code = option_code(option)?;
        if !requested.contains(&code) {
            requested.push(code);
        }
    }
    Ok(requested)
}

fn option_code(text: &str) -> Result<u8, Error> {
    let named = NAMES.iter().find(|(name, _)| *name == text).map(|(_, code)| *code);
    named.or_else(|| text.parse().ok()).ok_or_else(|| Error::Option(text.into()))
}
