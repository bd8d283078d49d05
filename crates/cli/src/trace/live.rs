//! `--live`: what packets really meet, told by the kernel (nft trace).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use zeugma_kernel::{Kernel, NftFamily, TRACE_TABLE, TraceEvent, Traced, Tracer};
use zeugma_model::Protocol;
use zeugma_plan::Family;
use zeugma_plan::Side;
use zeugma_plan::nft::{TableFamily, services, skeleton_of};

use super::state;
use super::target::Place;
use super::walk::Packet;

/// After the last word about a packet.
const SILENCE: Duration = Duration::from_millis(300);
/// Between two looks at the time.
const LOOK: Duration = Duration::from_millis(500);
/// How long a probe waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A rule or the end of a chain that a packet met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Met {
    /// Family, table and chain, as nft names them.
    pub(super) chain: String,
    /// The rule: as nft writes it where it is ours, else its handle; none: the end of the chain.
    pub(super) rule: Option<String>,
    pub(super) verdict: String,
    /// The link that the packet came in by.
    pub(super) iif: Option<String>,
    /// The link that it leaves by.
    pub(super) oif: Option<String>,
}

/// What the first packet met that came within `timeout`; empty: none came. With `sender` one is sent.
///
/// # Errors
/// When packets cannot be traced or sent.
pub(super) fn watch(
    kernel: &mut Kernel,
    packet: &Packet,
    sender: Option<Place<'_>>,
    timeout: Duration,
) -> Result<Vec<Met>> {
    let traced = Traced {
        family: Family::of(packet.destination),
        // What the host sends may be from any of its addresses.
        source: Some(packet.source).filter(|_| !matches!(sender, Some(Place::Host(_)))),
        destination: Some(packet.destination),
        port: packet.port,
    };
    let mut tracer = Tracer::begin(&traced).context("cannot trace packets")?;
    if let Some(place) = sender {
        send(place, packet)?;
    }
    let events = first(&mut tracer, Instant::now() + timeout)?;
    let names = Names::look(kernel, &events)?;
    Ok(events.into_iter().filter(|event| event.table != TRACE_TABLE).map(|event| names.met(event)).collect())
}

/// All events of the packet that is heard of first. Its number is another one once a bridge handed it up; but only at the
/// beginning does a packet meet the table that marks it.
fn first(tracer: &mut Tracer, deadline: Instant) -> Result<Vec<TraceEvent>> {
    let mut events: Vec<TraceEvent> = Vec::new();
    let mut others = BTreeSet::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let patience = if events.is_empty() { left } else { SILENCE };
        let before = events.len();
        for event in tracer.next(patience.min(LOOK))? {
            let is_known = events.iter().any(|known| known.packet == event.packet);
            if event.table == TRACE_TABLE && !events.is_empty() && !is_known {
                others.insert(event.packet);
            }
            if !others.contains(&event.packet) {
                events.push(event);
            }
        }
        let is_silent = events.len() == before;
        if is_silent && (!events.is_empty() || Instant::now() >= deadline) {
            return Ok(events);
        }
    }
}

/// One packet from its source, on a thread of its own: that one changes its namespace.
fn send(place: Place<'_>, packet: &Packet) -> Result<()> {
    let Some((protocol, port)) = packet.port else { bail!("--probe needs a port: DST:PORT") };
    let to = SocketAddr::from((packet.destination, port));
    let netns = match place {
        Place::Container(one) => Some(state::netns(one)?),
        Place::Host(_) => None,
        Place::Service(_) | Place::Elsewhere(_) => {
            bail!("--probe sends from a container or the host, not from {}", packet.source)
        }
    };
    let ask = move || match protocol {
        Protocol::Tcp => drop(TcpStream::connect_timeout(&to, PATIENCE)),
        Protocol::Udp | Protocol::Sctp => {
            let any = Family::of(to.ip()).unspecified();
            let sent = UdpSocket::bind((any, 0)).and_then(|socket| socket.send_to(b"zeugma trace", to));
            drop(sent);
        }
    };
    match netns {
        None => drop(thread::spawn(ask)),
        Some(path) => {
            let kernel = move || Kernel::with_container(&path)?.in_container(ask);
            drop(thread::spawn(kernel));
        }
    }
    Ok(())
}

/// What handles and indexes stand for.
struct Names {
    rules: HashMap<(String, u64), String>,
    links: BTreeMap<u32, String>,
}

impl Names {
    fn look(kernel: &mut Kernel, events: &[TraceEvent]) -> Result<Self> {
        let links =
            kernel.links(Side::Host)?.into_iter().map(|(name, state)| (state.index, name.to_string()));
        let mut names = Self { links: links.collect(), rules: HashMap::new() };
        for event in events.iter().filter(|event| event.rule.is_some() && event.family == "inet") {
            let Some(texts) = ours(&event.table, &event.chain) else { continue };
            let handles = kernel.rule_handles(NftFamily::Inet, &event.table, &event.chain)?;
            let chain = chain(event);
            names.rules.extend(handles.into_iter().map(|handle| (chain.clone(), handle)).zip(texts));
        }
        Ok(names)
    }

    fn met(&self, event: TraceEvent) -> Met {
        let chain = chain(&event);
        let rule = event.rule.map(|handle| {
            let known = self.rules.get(&(chain.clone(), handle)).cloned();
            known.unwrap_or_else(|| format!("rule with handle {handle}"))
        });
        let link = |index: Option<u32>| self.links.get(&index?).cloned();
        Met { rule, verdict: event.verdict, iif: link(event.iif), oif: link(event.oif), chain }
    }
}

fn chain(event: &TraceEvent) -> String {
    format!("{} {} {}", event.family, event.table, event.chain)
}

/// The rules of a chain of ours, as text and in their order.
fn ours(table: &str, chain: &str) -> Option<Vec<String>> {
    if table == zeugma_plan::nft::TABLE {
        let ours = skeleton_of(TableFamily::Inet).chains.into_iter().find(|one| one.name == chain)?;
        return Some(ours.rules.iter().map(ToString::to_string).collect());
    }
    let is_services = table == services::TABLE;
    let skeleton = is_services.then(services::skeleton)?;
    let ours = skeleton.chains.into_iter().find(|one| one.name == chain)?;
    Some(ours.rules.iter().map(ToString::to_string).collect())
}
