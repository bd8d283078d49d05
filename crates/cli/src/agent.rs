//! `zeugma agent`: the flags of the node agent. What it does is `zeugma-agent`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use zeugma_agent::{LogFormat, Settings, ZoneFile, log_to_stderr};

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
    /// How log lines on stderr are written; ZEUGMA_LOG in the environment says how much (warn, info, debug).
    #[arg(long, value_enum, default_value = "text")]
    log_format: Format,
}

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
    let Flags { listen_metrics: Metrics(listen_metrics), resolv_conf, zones, .. } = flags;
    Ok(zeugma_agent::run(Settings { listen_metrics, resolv_conf, zones })?)
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
