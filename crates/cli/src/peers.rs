//! `zeugma peers`: the other hosts of this host's overlays, as the agent sees them.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;
use zeugma_api::{OverlayView, PEERS, PeerView, STATUS, Status};
use zeugma_model::NetworkName;

use crate::client::Question;
use crate::outcome;
use crate::table::table;
use crate::watch::Listing;

/// Between two looks: counters tell nobody that they went on.
const LOOK: Duration = Duration::from_secs(1);

/// Which peers, and how they are listed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flags {
    /// Only this overlay's.
    #[arg(long)]
    network: Option<NetworkName>,
    #[command(flatten)]
    listing: Listing,
}

/// Prints them; what does not work is said on standard error.
pub(crate) fn run(flags: &Flags) -> Result<ExitCode> {
    let mut told = Vec::new();
    flags.listing.print(
        |after| {
            if after.is_some() {
                sleep(LOOK);
            }
            let mut overlays: Vec<OverlayView> = Question::get(PEERS).answer()?;
            overlays.retain(|overlay| flags.network.as_ref().is_none_or(|only| overlay.network == *only));
            let of_one = |overlay: &OverlayView| {
                let line = |line: &String| format!("network {}: {line}", overlay.network);
                overlay.problems.iter().map(line).collect::<Vec<_>>()
            };
            let mut lines: Vec<String> = overlays.iter().flat_map(of_one).collect();
            // What an overlay lacks is often what the node lacks.
            if !lines.is_empty() {
                lines.splice(..0, agent_s_problems()?);
            }
            for line in lines {
                if !told.contains(&line) {
                    outcome::problem(&line);
                    told.push(line);
                }
            }
            Ok((overlays, 0))
        },
        |overlays| shown(overlays, now()),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// What the agent says of this host, beside what it says of single networks.
pub(crate) fn agent_s_problems() -> Result<Vec<String>> {
    let status: Status = Question::get(STATUS).answer()?;
    Ok(status.problems.into_iter().filter(|line| !line.starts_with("network ")).collect())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn shown(overlays: &[OverlayView], now: u64) -> String {
    let rows: Vec<[String; 10]> = overlays
        .iter()
        .flat_map(|overlay| overlay.peers.iter().map(move |peer| row(overlay, peer, now)))
        .collect();
    let head =
        ["NETWORK", "NODE", "PATH", "REMOTE", "ALIVE", "MTU", "HANDSHAKE", "RECEIVED/SENT", "LOSS", "RTT"];
    table(head, &rows)
}

fn row(overlay: &OverlayView, peer: &PeerView, now: u64) -> [String; 10] {
    let path = match &overlay.wireguard {
        Some(whose) if peer.path == "wireguard" => format!("wireguard ({whose})"),
        _ => peer.path.clone(),
    };
    let word = |alive: bool| if alive { "yes" } else { "no" };
    let bytes = match (peer.received, peer.sent) {
        (Some(received), Some(sent)) => format!("{}/{}", size(received), size(sent)),
        _ => String::new(),
    };
    [
        overlay.network.to_string(),
        peer.node.to_string(),
        path,
        text(peer.remote),
        peer.alive.map_or_else(String::new, |alive| word(alive).into()),
        text(peer.mtu),
        peer.last_handshake.map_or_else(String::new, |then| format!("{} s ago", now.saturating_sub(then))),
        bytes,
        peer.loss.map_or_else(String::new, |loss| format!("{loss} %")),
        peer.round_trip
            .map_or_else(String::new, |time| format!("{}.{:02} ms", time / 1000, time % 1000 / 10)),
    ]
}

fn text(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// Bytes in the largest unit of which there are ten.
fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (0..units.len() - 1).find(|unit| bytes >> (10 * unit) < 10_240).unwrap_or(units.len() - 1);
    format!("{} {}", bytes >> (10 * unit), units[unit])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_peer_is_a_line_and_what_is_not_known_a_dash() {
        let view = json!([{"network": "front", "backend": "wireguard", "wireguard": "userspace", "mtu": 1420, "blocks": [],
        "peers": [
            {"node": "b", "alive": true, "blocks": [], "path": "wireguard", "remote": "192.0.2.2", "mtu": 1420,
             "last_handshake": 90, "received": 123_456_789, "sent": 512, "loss": 10, "round_trip": 1234},
            {"node": "c", "blocks": [], "path": "direct", "remote": null},
        ]}]);
        let overlays: Vec<OverlayView> = serde_json::from_value(view).unwrap();
        let lines: Vec<String> = shown(&overlays, 100).lines().map(str::to_owned).collect();
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            words(&lines[1]),
            "front b wireguard (userspace) 192.0.2.2 yes 1420 10 s ago 117 MiB/512 B 10 % 1.23 ms"
        );
        assert_eq!(words(&lines[2]), "front c direct - - - - - - -");
    }
}
