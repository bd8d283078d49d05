//! How the agent is run: what the command line says, as values.

use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use axum::http::Uri;
use ipnetwork::IpNetwork;
use zeugma_dns::server::ZoneFile;
use zeugma_model::NodeName;

/// The run directory is that of all of zeugma: `$ZEUGMA_RUN_DIR`, else `/run/zeugma`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where metrics and health are served; none: nowhere.
    pub listen_metrics: Option<SocketAddr>,
    /// The file that names the host's DNS servers.
    pub resolv_conf: PathBuf,
    /// Zones of the operator's own.
    pub zones: Vec<ZoneFile>,
    /// Where services are kept.
    pub shared: Shared,
    /// Who this node is.
    pub node: NodeName,
    /// Where virtual addresses come from, at most one range of each family.
    pub service_ranges: Vec<IpNetwork>,
    /// Where container runtimes look for networks.
    pub runtimes: Runtimes,
    /// By which addresses other hosts reach this one, at most one of each family; none: those of the default route.
    pub underlay: Vec<IpAddr>,
    /// A file that says who the other hosts are, where the catalogue is this host's own.
    pub peers: Option<PathBuf>,
    /// How long other hosts believe that this one lives when they hear nothing of it.
    pub node_ttl: Duration,
    /// Who does WireGuard.
    pub encryption: Encryption,
}

/// Who encrypts what goes to other hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encryption {
    /// The kernel where it has WireGuard, else `zeugma wg`.
    #[default]
    Auto,
    /// The kernel.
    Kernel,
    /// `zeugma wg`.
    Userspace,
}

/// Where runtimes look for networks and plugins.
#[derive(Debug, Clone)]
pub struct Runtimes {
    /// Where networks are.
    pub conf_dir: PathBuf,
    /// Where plugins are.
    pub bin_dir: PathBuf,
}

/// Where the catalogue is.
#[derive(Debug, Clone)]
pub enum Shared {
    /// In a file of this host's own.
    File(PathBuf),
    /// In etcd, with other hosts.
    Etcd(Etcd),
}

/// How etcd is reached.
#[derive(Debug, Clone)]
pub struct Etcd {
    /// URLs of members.
    pub urls: Vec<String>,
    /// The certificate of the authority that signed the members', in PEM.
    pub authority: Option<PathBuf>,
    /// Our certificate and its key, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Our name, and the file with the password in its first line.
    pub user: Option<(String, PathBuf)>,
    /// Where what was last heard of it is kept, for an agent that starts while it is away.
    pub memory: PathBuf,
}

impl Shared {
    /// Where it is, as far as that is given in addresses.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let Self::Etcd(etcd) = self else { return Vec::new() };
        let address = |url: &String| {
            let url: Uri = url.parse().ok()?;
            url.host()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
        };
        etcd.urls.iter().filter_map(address).collect()
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(formatter),
            Self::Etcd(etcd) => write!(formatter, "etcd {}", etcd.urls.join(",")),
        }
    }
}

#[cfg(feature = "etcd")]
impl Etcd {
    /// With what is in the files now.
    pub(crate) fn read(&self) -> Result<zeugma_catalogue::etcd::Settings, zeugma_catalogue::Error> {
        use zeugma_catalogue::etcd::{ClientIdentity, Settings, Tls, User};
        let mut settings = Settings::new(&self.urls);
        let identity = match &self.identity {
            None => None,
            Some((certificate, key)) => {
                Some(ClientIdentity { certificate: read(certificate)?, key: read(key)? })
            }
        };
        if let Some(authority) = &self.authority {
            settings.tls = Some(Tls { authority: read(authority)?, identity, server_name: None });
        }
        if let Some((name, password)) = &self.user {
            let text = String::from_utf8_lossy(&read(password)?).into_owned();
            let password = text.lines().next().unwrap_or_default().to_owned();
            settings.user = Some(User { name: name.clone(), password });
        }
        Ok(settings)
    }
}

#[cfg(feature = "etcd")]
fn read(path: &std::path::Path) -> Result<Vec<u8>, zeugma_catalogue::Error> {
    fs::read(path).map_err(|source| zeugma_catalogue::Error::File {
        doing: "read",
        path: path.into(),
        source: Box::new(source),
    })
}

/// This host's name, made to fit.
pub fn host_name() -> NodeName {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    fitting(name.trim())
}

/// What is no letter, digit, `_`, `.` or `-` becomes `-`, and a name begins with a letter or digit.
fn fitting(name: &str) -> NodeName {
    const LONGEST: usize = 253;
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    let name: String =
        name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).chars().take(LONGEST).collect();
    name.parse().unwrap_or_else(|_| "localhost".parse().expect("localhost is a name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_host_name_becomes_a_node_name() {
        let check = |name: &str, expected: &str| assert_eq!(fitting(name).as_str(), expected);
        check("node-1.example", "node-1.example");
        check("b\u{fc}ro", "b-ro");
        check("-x", "x");
        check("(none)", "none-");
        check("", "localhost");
        check(&"a".repeat(300), &"a".repeat(253));
    }
}
