//! Text to values.

use std::str::FromStr;
use std::time::Duration;

use zeugma_model::PublicKey;

use super::{Change, Misread, PeerChange, PeerState, Request, Secret, State};

/// Where the first request of `bytes` ends: behind an empty line. None: it is not all there.
pub fn request_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|pair| pair == b"\n\n").map(|at| at + 2)
}

/// The same text with numbers for the names of links that endpoints are on, as in `[fe80::1%eth0]:51820`, which is how
/// wg(8) writes them. A name that `index` does not know stays, and is nothing that can be read.
pub fn numbered(text: &str, index: impl Fn(&str) -> Option<u32>) -> String {
    let line = |line: &str| {
        let (before, rest) = line.strip_prefix("endpoint=[")?.split_once('%')?;
        let (name, port) = rest.split_once(']')?;
        Some(format!("endpoint=[{before}%{}]{port}", index(name)?))
    };
    let numbered = |one: &str| line(one).unwrap_or_else(|| one.to_owned());
    text.split('\n').map(numbered).collect::<Vec<_>>().join("\n")
}

/// Reads a request, with or without the empty line behind it.
///
/// # Errors
/// [`Misread`].
pub fn request(text: &str) -> Result<Request, Misread> {
    let mut lines = text.lines().take_while(|line| !line.is_empty());
    match lines.next() {
        Some("get=1") => lines.next().map_or(Ok(Request::Get), |line| Err(no_key(line))),
        Some("set=1") => {
            let mut change = Change::default();
            lines.try_for_each(|line| changed(&mut change, line))?;
            Ok(Request::Set(change))
        }
        _ => Err(Misread::NoRequest),
    }
}

fn changed(change: &mut Change, line: &str) -> Result<(), Misread> {
    let (key, value) = pair(line)?;
    if key == "public_key" {
        change.peers.push(PeerChange::of(public(key, value)?));
        return Ok(());
    }
    match change.peers.last_mut() {
        Some(peer) => peer_changed(peer, key, value),
        None => device_changed(change, key, value),
    }
}

fn device_changed(change: &mut Change, key: &str, value: &str) -> Result<(), Misread> {
    match key {
        "private_key" => change.private_key = Some(secret(key, value)?),
        "listen_port" => change.listen_port = Some(parsed(key, value)?),
        "fwmark" => change.fwmark = Some(mark(key, value)?),
        "replace_peers" => change.replace_peers = yes(key, value)?,
        _ => return Err(no_key(key)),
    }
    Ok(())
}

fn peer_changed(peer: &mut PeerChange, key: &str, value: &str) -> Result<(), Misread> {
    match key {
        "remove" => peer.remove = yes(key, value)?,
        "update_only" => peer.update_only = yes(key, value)?,
        "preshared_key" => peer.preshared_key = Some(secret(key, value)?),
        "endpoint" => peer.endpoint = Some(parsed(key, value)?),
        "persistent_keepalive_interval" => peer.keepalive = Some(parsed(key, value)?),
        "replace_allowed_ips" => peer.replace_allowed = yes(key, value)?,
        "allowed_ip" => {
            let (value, is_given) = value.strip_prefix('-').map_or((value, true), |value| (value, false));
            peer.allowed.push((parsed(key, value)?, is_given));
        }
        "protocol_version" if value == "1" => {}
        "protocol_version" => return Err(Misread::Value(key.into())),
        _ => return Err(no_key(key)),
    }
    Ok(())
}

/// Reads the answer to a request: to `get` the device's state, to `set` one without anything.
///
/// # Errors
/// [`Misread`], [`Misread::Refused`] with the `errno` of the other side among them.
pub fn answered(text: &str) -> Result<State, Misread> {
    let mut state = State::default();
    for line in text.lines() {
        match pair(line)? {
            ("errno", "0") => return Ok(state),
            ("errno", value) => return Err(Misread::Refused(parsed("errno", value)?)),
            ("public_key", value) => state.peers.push(new_peer(public("public_key", value)?)),
            (key, value) => match state.peers.last_mut() {
                Some(peer) => peer_said(peer, key, value)?,
                None => device_said(&mut state, key, value)?,
            },
        }
    }
    Err(Misread::Cut)
}

fn new_peer(key: PublicKey) -> PeerState {
    PeerState {
        key,
        preshared_key: None,
        endpoint: None,
        last_handshake: None,
        received: 0,
        sent: 0,
        keepalive: 0,
        allowed: Vec::new(),
    }
}

fn device_said(state: &mut State, key: &str, value: &str) -> Result<(), Misread> {
    match key {
        "private_key" => state.private_key = secret(key, value)?,
        "listen_port" => state.listen_port = parsed(key, value)?,
        "fwmark" => state.fwmark = mark(key, value)?,
        // Others may say more than we know.
        _ => {}
    }
    Ok(())
}

fn peer_said(peer: &mut PeerState, key: &str, value: &str) -> Result<(), Misread> {
    let handshake = |peer: &PeerState| peer.last_handshake.unwrap_or_default();
    match key {
        "preshared_key" => peer.preshared_key = secret(key, value)?,
        "endpoint" => peer.endpoint = Some(parsed(key, value)?),
        "last_handshake_time_sec" => {
            let seconds = Duration::from_secs(parsed(key, value)?);
            peer.last_handshake = Some(seconds + Duration::from_nanos(handshake(peer).subsec_nanos().into()));
        }
        "last_handshake_time_nsec" => {
            let nanoseconds: u32 = parsed(key, value)?;
            let below = nanoseconds.min(999_999_999);
            peer.last_handshake = Some(Duration::new(handshake(peer).as_secs(), below));
        }
        "tx_bytes" => peer.sent = parsed(key, value)?,
        "rx_bytes" => peer.received = parsed(key, value)?,
        "persistent_keepalive_interval" => peer.keepalive = parsed(key, value)?,
        "allowed_ip" => peer.allowed.push(parsed(key, value)?),
        _ => {}
    }
    // Never is written as the beginning of time.
    peer.last_handshake = peer.last_handshake.filter(|time| !time.is_zero());
    Ok(())
}

fn pair(line: &str) -> Result<(&str, &str), Misread> {
    line.split_once('=').ok_or(Misread::NoPair)
}

/// What does not look like a key of the protocol is not repeated: a secret in base64 ends with `=`, too.
fn no_key(word: &str) -> Misread {
    let is_harmless = word.len() <= 30 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    Misread::Key(if is_harmless { word.into() } else { "..".into() })
}

fn parsed<T: FromStr>(key: &str, value: &str) -> Result<T, Misread> {
    value.parse().map_err(|_| Misread::Value(key.into()))
}

fn yes(key: &str, value: &str) -> Result<bool, Misread> {
    if value == "true" { Ok(true) } else { Err(Misread::Value(key.into())) }
}

/// Decimal, or with `0x` hexadecimal.
fn mark(key: &str, value: &str) -> Result<u32, Misread> {
    let wrong = |_| Misread::Value(key.into());
    match value.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).map_err(wrong),
        None => value.parse().map_err(wrong),
    }
}

fn public(key: &str, value: &str) -> Result<PublicKey, Misread> {
    hexadecimal(value).map(PublicKey).ok_or_else(|| Misread::Value(key.into()))
}

/// All zeroes stand for none.
fn secret(key: &str, value: &str) -> Result<Option<Secret>, Misread> {
    let bytes = hexadecimal(value).ok_or_else(|| Misread::Value(key.into()))?;
    Ok((bytes != [0; 32]).then_some(Secret(bytes)))
}

fn hexadecimal(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}
