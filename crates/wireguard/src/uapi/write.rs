//! Values to text.

use std::fmt::Write;

use super::{Change, PeerChange, PeerState, Secret, State};

/// A request for a change, with the empty line behind it.
pub fn change(change: &Change) -> String {
    let mut text = String::from("set=1\n");
    let mut say = |key: &str, value: &dyn std::fmt::Display| line(&mut text, key, value);
    if let Some(key) = change.private_key {
        say("private_key", &hexadecimal(key));
    }
    if let Some(port) = change.listen_port {
        say("listen_port", &port);
    }
    if let Some(mark) = change.fwmark {
        say("fwmark", &mark);
    }
    if change.replace_peers {
        say("replace_peers", &true);
    }
    change.peers.iter().for_each(|peer| peer_change(&mut text, peer));
    text.push('\n');
    text
}

fn peer_change(text: &mut String, peer: &PeerChange) {
    let mut say = |key: &str, value: &dyn std::fmt::Display| line(text, key, value);
    say("public_key", &hexadecimal(Some(Secret(peer.key.0))));
    let flags = [("remove", peer.remove), ("update_only", peer.update_only)];
    flags.iter().filter(|(_, is_set)| *is_set).for_each(|(key, _)| say(key, &true));
    if let Some(key) = peer.preshared_key {
        say("preshared_key", &hexadecimal(key));
    }
    if let Some(endpoint) = peer.endpoint {
        say("endpoint", &endpoint);
    }
    if let Some(seconds) = peer.keepalive {
        say("persistent_keepalive_interval", &seconds);
    }
    if peer.replace_allowed {
        say("replace_allowed_ips", &true);
    }
    for (network, is_given) in &peer.allowed {
        say("allowed_ip", &format_args!("{}{network}", if *is_given { "" } else { "-" }));
    }
}

/// The answer to a request for the state, with `errno` and the empty line behind it.
pub fn state(state: &State) -> String {
    let mut text = String::new();
    let mut say = |key: &str, value: &dyn std::fmt::Display| line(&mut text, key, value);
    if state.private_key.is_some() {
        say("private_key", &hexadecimal(state.private_key));
    }
    if state.listen_port != 0 {
        say("listen_port", &state.listen_port);
    }
    if state.fwmark != 0 {
        say("fwmark", &state.fwmark);
    }
    state.peers.iter().for_each(|peer| peer_state(&mut text, peer));
    text.push_str("errno=0\n\n");
    text
}

fn peer_state(text: &mut String, peer: &PeerState) {
    let mut say = |key: &str, value: &dyn std::fmt::Display| line(text, key, value);
    let handshake = peer.last_handshake.unwrap_or_default();
    say("public_key", &hexadecimal(Some(Secret(peer.key.0))));
    say("preshared_key", &hexadecimal(peer.preshared_key));
    say("protocol_version", &1);
    if let Some(endpoint) = peer.endpoint {
        say("endpoint", &endpoint);
    }
    say("last_handshake_time_sec", &handshake.as_secs());
    say("last_handshake_time_nsec", &handshake.subsec_nanos());
    say("tx_bytes", &peer.sent);
    say("rx_bytes", &peer.received);
    say("persistent_keepalive_interval", &peer.keepalive);
    peer.allowed.iter().for_each(|network| say("allowed_ip", network));
}

fn line(text: &mut String, key: &str, value: &dyn std::fmt::Display) {
    writeln!(text, "{key}={value}").expect("a string takes what is written to it");
}

/// None is all zeroes.
fn hexadecimal(key: Option<Secret>) -> String {
    let bytes = key.map_or([0; 32], |Secret(bytes)| bytes);
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes what is written to it");
        text
    })
}
