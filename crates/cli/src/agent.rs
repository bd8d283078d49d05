//! `zeugma agent`: the flags of the node agent. What it does is `zeugma-agent`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use ipnetwork::IpNetwork;
use zeugma_agent::{Encryption, Etcd, LogFormat, Runtimes, Settings, Shared, ZoneFile, log_to_stderr};
use zeugma_journal::state_dir;
use zeugma_model::NodeName;

use crate::network::Places;

/// The run directory is that of all of zeugma: ZEUGMA_RUN_DIR in the environment, else /run/zeugma.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flags {
    /// Where metrics and health are served (/metrics, /healthz, /readyz), an address of this host and a port; none:
    /// nowhere.
    #[arg(long, default_value = "127.0.0.1:9253", value_parser = address_or_none)]
    listen_metrics: Metrics,
    /// The file that names the host's DNS servers; read again when it changes.
    #[arg(long, default_value = "/etc/resolv.conf")]
    resolv_conf: PathBuf,
    /// A zone of your own and the master file (RFC 1035) with its records, such as corp.example=/etc/zeugma/corp.zone;
    /// read again when it changes. May be given several times.
    #[arg(long = "zone", value_name = "ORIGIN=FILE")]
    zones: Vec<ZoneFile>,
    #[command(flatten)]
    services: Services,
    #[command(flatten)]
    overlays: Overlays,
    #[command(flatten)]
    runtimes: Places,
    /// How log lines on stderr are written; ZEUGMA_LOG in the environment says how much (warn, info, debug).
    #[arg(long, value_enum, default_value = "text")]
    log_format: Format,
}

/// Where services are kept, and what they get.
#[derive(Debug, Clone, Args)]
struct Services {
    /// The file that services are kept in, of this host's own. ZEUGMA_STATE_DIR in the environment is another
    /// directory for it.
    #[arg(long, value_name = "FILE", default_value_os_t = state_dir().join("catalogue.redb"), conflicts_with = "etcd")]
    catalogue: PathBuf,
    /// What this node is called, among those that share services; the host's name unless given.
    #[arg(long, value_name = "NAME")]
    node: Option<NodeName>,
    /// A range that virtual addresses come from; given twice, one of each family. Unless any is given:
    /// 10.213.0.0/16 and fd7a:6575:676d:61::/112. All nodes need the same.
    #[arg(long = "service-range", value_name = "CIDR")]
    service_ranges: Vec<IpNetwork>,
    /// Keeps services in etcd, with other hosts: a member's URL, such as https://10.0.0.1:2379. May be given several
    /// times.
    #[arg(long, value_name = "URL")]
    etcd: Vec<String>,
    /// The certificate of the authority that signed those of etcd's members, PEM; for https.
    #[arg(long, value_name = "FILE", requires = "etcd")]
    etcd_ca: Option<PathBuf>,
    /// Our certificate for etcd, PEM.
    #[arg(long, value_name = "FILE", requires = "etcd_ca", requires = "etcd_key")]
    etcd_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,
    /// Our user in etcd.
    #[arg(long, value_name = "NAME", requires = "etcd", requires = "etcd_password_file")]
    etcd_user: Option<String>,
    /// The file whose first line is the user's password.
    #[arg(long, value_name = "FILE", requires = "etcd_user")]
    etcd_password_file: Option<PathBuf>,
}

/// How other hosts reach this one.
#[derive(Debug, Clone, Args)]
struct Overlays {
    /// An address of this host by which other hosts of overlays reach it; given twice, one of each family. Unless any
    /// is given: those of the link with the default route.
    #[arg(long, value_name = "ADDRESS")]
    underlay: Vec<IpAddr>,
    /// A file that says who the other hosts of overlays are, the same on each, for two or three hosts without etcd; read
    /// again when it changes.
    #[arg(long, value_name = "FILE", conflicts_with = "etcd")]
    peers: Option<PathBuf>,
    /// How many seconds other hosts believe that this one lives when they hear nothing of it.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u64).range(1..=3600))]
    node_ttl: u64,
    /// Who encrypts overlays whose backend is WireGuard.
    #[arg(long, value_enum, value_name = "WHO", default_value = "auto")]
    wireguard: WireguardBy,
}

/// Who does WireGuard.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum WireguardBy {
    /// The kernel where it has WireGuard, else zeugma wg.
    Auto,
    /// The kernel.
    Kernel,
    /// zeugma wg, a process for each overlay.
    Userspace,
}

/// Seldom used by anybody else: the middle of 10.0.0.0/8, and a ULA whose bits spell our name.
const SERVICE_RANGES: [&str; 2] = ["10.213.0.0/16", "fd7a:6575:676d:61::/112"];

#[derive(Debug, Clone, Copy)]
struct Metrics(Option<SocketAddr>);

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For a person.
    Text,
    /// An object a line.
    Json,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(flags: Flags) -> Result<()> {
    log_to_stderr(match flags.log_format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    });
    let Flags {
        listen_metrics: Metrics(listen_metrics),
        resolv_conf,
        zones,
        services,
        overlays,
        runtimes,
        ..
    } = flags;
    let service_ranges = services.ranges()?;
    let node = services.node.clone().unwrap_or_else(zeugma_agent::host_name);
    let shared = services.shared()?;
    let runtimes = Runtimes { conf_dir: runtimes.cni_conf_dir, bin_dir: runtimes.bin_dir };
    let (underlay, node_ttl) = (overlays.addresses()?, Duration::from_secs(overlays.node_ttl));
    let encryption = overlays.encryption();
    let settings = Settings {
        listen_metrics,
        resolv_conf,
        zones,
        shared,
        node,
        service_ranges,
        runtimes,
        underlay,
        peers: overlays.peers,
        node_ttl,
        encryption,
    };
    Ok(zeugma_agent::run(settings)?)
}

impl Overlays {
    fn encryption(&self) -> Encryption {
        match self.wireguard {
            WireguardBy::Auto => Encryption::Auto,
            WireguardBy::Kernel => Encryption::Kernel,
            WireguardBy::Userspace => Encryption::Userspace,
        }
    }

    fn addresses(&self) -> Result<Vec<IpAddr>> {
        for (at, address) in self.underlay.iter().enumerate() {
            let is_twin = |other: &IpAddr| other.is_ipv4() == address.is_ipv4();
            ensure!(
                !self.underlay[..at].iter().any(is_twin),
                "--underlay {address}: there is one of its family already"
            );
        }
        Ok(self.underlay.clone())
    }
}

impl Services {
    fn ranges(&self) -> Result<Vec<IpNetwork>> {
        let defaults = || SERVICE_RANGES.iter().map(|range| range.parse().expect("a range")).collect();
        let ranges = if self.service_ranges.is_empty() { defaults() } else { self.service_ranges.clone() };
        for (at, range) in ranges.iter().enumerate() {
            let is_twin = |other: &IpNetwork| other.is_ipv4() == range.is_ipv4();
            ensure!(
                !ranges[..at].iter().any(is_twin),
                "--service-range {range}: there is one of its family already"
            );
            let is_roomy = range.prefix() <= if range.is_ipv4() { 30 } else { 126 };
            ensure!(is_roomy, "--service-range {range} has no room for an address: take a shorter prefix");
        }
        Ok(ranges)
    }

    fn shared(self) -> Result<Shared> {
        if self.etcd.is_empty() {
            return Ok(Shared::File(self.catalogue));
        }
        ensure!(
            cfg!(feature = "etcd"),
            "--etcd: this zeugma was built without etcd; take a release, or build with `--features etcd`"
        );
        Ok(Shared::Etcd(Etcd {
            urls: self.etcd,
            authority: self.etcd_ca,
            identity: self.etcd_cert.zip(self.etcd_key),
            user: self.etcd_user.zip(self.etcd_password_file),
            memory: state_dir().join("known.redb"),
        }))
    }
}

fn address_or_none(text: &str) -> Result<Metrics> {
    match text {
        "none" => Ok(Metrics(None)),
        address => {
            let address = address.parse();
            let address =
                address.with_context(|| format!("{text:?} is no address with a port, nor `none`"))?;
            Ok(Metrics(Some(address)))
        }
    }
}
