//! The daemon's flags: the reference's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use zeugma_dhcp::Pacing;
use zeugma_ipam::dhcp::DEFAULT_SOCKET;

/// Times are written as Go has them: 10s, 1m30s, 500ms.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flags {
    /// The socket that the plugin asks at (daemonSocketPath in its configuration). Not used when the service
    /// manager hands over a socket.
    #[arg(long, default_value = DEFAULT_SOCKET)]
    pub(crate) socketpath: PathBuf,
    /// Where to write the process ID; an absolute path.
    #[arg(long)]
    pub(crate) pidfile: Option<PathBuf>,
    /// Where the host's root is mounted, when the daemon itself runs in a container.
    #[arg(long)]
    pub(crate) hostprefix: Option<PathBuf>,
    /// Servers are to broadcast their replies. Interfaces of kind ipvlan ask for that in any case.
    #[arg(long)]
    pub(crate) broadcast: bool,
    /// How long a server may take for an answer.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// The longest pause between two attempts to get a lease.
    #[arg(long, default_value = "62s", value_parser = duration)]
    pub(crate) resendmax: Duration,
    /// How long to try to get a lease before ADD fails.
    #[arg(long, default_value = "208s", value_parser = duration)]
    pub(crate) resendtimeout: Duration,
}

impl Flags {
    /// A path of the host as this process sees it.
    pub(crate) fn on_host(&self, path: &Path) -> PathBuf {
        let mut there = self.hostprefix.clone().unwrap_or_default().into_os_string();
        there.push(path);
        there.into()
    }

    pub(crate) fn pacing(&self) -> Pacing {
        Pacing { timeout: self.timeout, resend_max: self.resendmax, give_up: self.resendtimeout }
    }
}

/// Numbers with units, one after the other, as Go's `time.ParseDuration` reads them.
fn duration(text: &str) -> Result<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, behind) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, behind) = split(behind, |c| c.is_ascii_alphabetic());
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => bail!("{text:?} is no time: write numbers with h, m, s or ms, such as 1m30s"),
        };
        let number: f64 = number.parse().with_context(|| format!("{text:?} is no time"))?;
        let part = Duration::try_from_secs_f64(number * seconds)?;
        total = total.checked_add(part).with_context(|| format!("{text:?} is too long"))?;
        rest = behind;
    }
    if total.is_zero() { bail!("{text:?} is no time to wait: write one such as 10s") } else { Ok(total) }
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_reads_them() {
        let check = |text: &str, milliseconds: u64| {
            assert_eq!(duration(text).ok(), Some(Duration::from_millis(milliseconds)), "{text}");
        };
        check("10s", 10_000);
        check("1m30s", 90_000);
        check("500ms", 500);
        check("1.5h", 5_400_000);
        for wrong in ["", "10", "s", "10s5", "0s", "-1s", "1d", "1e400s", "1..2s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_host_s_paths_are_below_its_prefix() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            flags: Flags,
        }
        let flags = |words: &[&str]| <Cli as clap::Parser>::parse_from(words).flags;
        assert_eq!(flags(&["z"]).on_host(Path::new("/run/x")), Path::new("/run/x"));
        let inside = flags(&["z", "--hostprefix", "/host"]);
        assert_eq!(inside.on_host(Path::new("/run/x")), Path::new("/host/run/x"));
    }
}
