//! Names on the host itself: what the agent tells systemd-resolved. Its part is played here, on a bus of its own: a real
//! one cannot be told from the machine's.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use netns_fixtures::{eventually, run};
use serde_json::json;
use zbus::connection::Builder;
use zbus::{Connection, block_on, interface};
use zeugma_tests::agent::{Agent, SOON};
use zeugma_tests::bus;
use zeugma_tests::stage::{Stage, bridge, network};

/// What was set, by interface index: servers and domains as text.
type Settings = BTreeMap<i32, (Vec<String>, Vec<String>)>;
type Links = Arc<Mutex<Settings>>;

struct Manager(Links);

#[interface(name = "org.freedesktop.resolve1.Manager")]
impl Manager {
    #[zbus(name = "SetLinkDNS")]
    fn set_link_dns(&self, link: i32, servers: Vec<(i32, Vec<u8>)>) {
        let text = |(family, bytes): (i32, Vec<u8>)| match <[u8; 4]>::try_from(&bytes[..]) {
            Ok(bytes) => format!("{family} {}", IpAddr::from(bytes)),
            Err(_) => format!(
                "{family} {}",
                <[u8; 16]>::try_from(&bytes[..])
                    .map_or_else(|_| "?".into(), |bytes| IpAddr::from(bytes).to_string())
            ),
        };
        self.links().entry(link).or_default().0 = servers.into_iter().map(text).collect();
    }

    fn set_link_domains(&self, link: i32, domains: Vec<(String, bool)>) {
        let text = |(domain, routing_only)| if routing_only { format!("~{domain}") } else { domain };
        self.links().entry(link).or_default().1 = domains.into_iter().map(text).collect();
    }

    fn revert_link(&self, link: i32) {
        self.links().remove(&link);
    }
}

impl Manager {
    fn links(&self) -> MutexGuard<'_, Settings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn resolved(links: &Links) -> Result<Connection> {
    let builder = Builder::address(bus::ADDRESS).name("org.freedesktop.resolve1");
    let builder = builder.serve_at("/org/freedesktop/resolve1", Manager(links.clone()));
    block_on(builder.build()).context("be systemd-resolved")
}

#[test]
fn systemd_resolved_asks_the_gateways_about_our_domain_while_the_network_is_there() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (_bus, links) = (bus::start(&stage)?, Links::default());
        let resolved_there = resolved(&links)?;
        let agent = Agent::start(&stage.host)?;
        let resolver = json!({"type": "resolver", "domain": "blue.example"});
        let (chain, one) = (network("net", &[bridge(0), resolver])?, stage.container()?);
        chain.add(&stage.host, &one)?;
        let index = stage.host.ip_json("link show br0")?[0]["ifindex"].as_i64().context("an index")?;
        let index = i32::try_from(index)?;
        let servers = ["2 10.88.0.1", "10 2001:db8:88::1"].map(str::to_owned).to_vec();
        let told = Some((servers, vec!["~blue.example".to_owned()]));
        let now = || links.lock().unwrap_or_else(PoisonError::into_inner).get(&index).cloned();
        ensure!(eventually(SOON, || now() == told), "{:?}: {}", now(), agent.process.log());
        // One that was restarted knows nothing.
        drop(resolved_there);
        links.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let _restarted = resolved(&links)?;
        ensure!(eventually(2 * SOON, || now() == told), "{:?}: {}", now(), agent.process.log());
        chain.del(&stage.host, &one)?;
        ensure!(eventually(SOON, || now().is_none()), "{:?}: {}", now(), agent.process.log());
        Ok(())
    });
}
