//! Who may reach a container through the host: ingress policies in both families, with and without
//! br_netfilter. With firewalld: firewalld.rs.

use anyhow::{Result, ensure};
use netns_fixtures::{Attachment, Host, Server, run};
use serde_json::{Value, json};
use zeugma_tests::stage::{Stage, address, bridge, firewall, network, portmap, published, refusal};

/// A container with a server on port 80 and its addresses as `ip:port`.
struct Place {
    attachment: Attachment,
    ports: [String; 2],
    _server: Server,
}

impl Place {
    fn container(&self) -> &Host {
        self.attachment.container()
    }
}

/// Two containers on one bridge and one on another, all under the same policy; `one` publishes 8080.
struct Town<'a> {
    stage: Stage<'a>,
    one: Place,
    two: Place,
    other: Place,
}

impl<'a> Town<'a> {
    fn new(world: &'a netns_fixtures::World, policy: &str, bridge_netfilter: &str) -> Result<Town<'a>> {
        let stage = Stage::new(world)?;
        for tables in ["iptables", "ip6tables"] {
            let key = format!("net.bridge.bridge-nf-call-{tables}");
            stage.host.set_sysctl(&key, bridge_netfilter)?;
        }
        let place = |number: u8, ports: &[&str]| -> Result<Place> {
            let name = format!("net{number}");
            let chain = network(&name, &[bridge(number), portmap(), firewall(policy)])?;
            let attachment = stage.container()?.with(published(ports));
            let result = chain.add(&stage.host, &attachment)?;
            let server = attachment.container().tcp_echo("[::]:80", attachment.id())?;
            let ports = [address(&result, 4)? + ":80", format!("[{}]:80", address(&result, 6)?)];
            Ok(Place { attachment, ports, _server: server })
        };
        let (one, two, other) = (place(0, &["8080:80"])?, place(0, &[])?, place(1, &[])?);
        Ok(Town { stage, one, two, other })
    }

    fn ensure_reach(&self, from: &Place, to: &Place, expected: bool) -> Result<()> {
        for port in &to.ports {
            let answer = from.container().ask_tcp(port);
            let (from, to) = (from.attachment.id(), to.attachment.id());
            ensure!(answer.is_ok() == expected, "{from} asks {to} at {port}: {answer:?}");
        }
        Ok(())
    }

    /// Whatever the policy: published means reachable, from outside and from other bridges.
    fn ensure_published(&self) -> Result<()> {
        for port in ["192.0.2.1:8080", "[2001:db8:1::1]:8080"] {
            for from in [&self.stage.client, self.other.container()] {
                let answer = from.ask_tcp(port);
                ensure!(answer.is_ok(), "{} asks {port}: {answer:?}", from.name());
            }
        }
        Ok(())
    }
}

/// Within a bridge, and between bridges, with br_netfilter off and on.
fn ensure_policy(policy: &str, within: bool, between: bool) {
    for bridge_netfilter in ["0", "1"] {
        run(|world| {
            let town = Town::new(world, policy, bridge_netfilter)?;
            town.ensure_reach(&town.one, &town.two, within)?;
            town.ensure_reach(&town.two, &town.one, within)?;
            town.ensure_reach(&town.one, &town.other, between)?;
            town.ensure_reach(&town.other, &town.one, between)?;
            town.ensure_published()
        });
    }
}

#[test]
fn open_lets_everybody_in() {
    ensure_policy("open", true, true);
}

#[test]
fn same_bridge_keeps_other_bridges_out() {
    ensure_policy("same-bridge", true, false);
}

#[test]
fn isolated_keeps_neighbours_out_too() {
    ensure_policy("isolated", false, false);
}

#[test]
fn isolated_containers_reach_the_outside_and_their_gateway() {
    run(|world| {
        let town = Town::new(world, "isolated", "1")?;
        let _server = town.stage.client.tcp_echo("[::]:7000", "outside")?;
        let asking = town.one.container();
        assert_eq!(asking.ask_tcp("192.0.2.2:7000")?, "outside 192.0.2.1");
        assert_eq!(asking.ask_tcp("[2001:db8:1::2]:7000")?, "outside 2001:db8:1::1");
        asking.ping("10.88.0.1")
    });
}

#[test]
fn a_bridge_without_policy_may_reach_one_with_a_policy() {
    run(|world| {
        let stage = Stage::new(world)?;
        let guarded = network("guarded", &[bridge(0), firewall("same-bridge")])?;
        let open = network("open", &[bridge(1), firewall("open")])?;
        let (one, other) = (stage.container()?, stage.container()?);
        let there = address(&guarded.add(&stage.host, &one)?, 4)?;
        open.add(&stage.host, &other)?;
        let _server = one.container().tcp_echo("0.0.0.0:80", "one")?;
        Ok(other.container().ask_tcp(&format!("{there}:80")).map(drop)?)
    });
}

#[test]
fn the_policy_of_a_bridge_goes_with_its_last_container() {
    run(|world| {
        let stage = Stage::new(world)?;
        let chain = network("net", &[bridge(0), firewall("isolated")])?;
        let web = stage.container()?;
        chain.add(&stage.host, &web)?;
        let table = stage.host.nft_table("inet zeugma")?;
        assert!(table.contains("br0"), "{table}");
        chain.del(&stage.host, &web)?;
        chain.gc(&stage.host, &[])?;
        assert!(!stage.host.nft_table("inet zeugma")?.contains("br0"));
        Ok(())
    });
}

#[test]
fn senseless_settings_are_refused_by_name() {
    run(|world| {
        let stage = Stage::new(world)?;
        for (key, value) in [("ingressPolicy", "closed"), ("backend", "ipfw")] {
            let firewall = json!({"type": "firewall", key: value});
            let chain = network("net", &[bridge(0), firewall])?;
            let error = refusal(chain.add(&stage.host, &stage.container()?));
            assert_eq!((error.plugin.as_str(), error.code), ("firewall", 7), "{error}");
            assert!(error.msg.contains(key) && error.msg.contains(value), "{error}");
        }
        Ok(())
    });
}

#[test]
fn without_firewalld_its_backend_is_refused_and_nothing_else_needs_it() {
    run(|world| {
        let stage = Stage::new(world)?;
        let asked: Value = json!({"type": "firewall", "backend": "firewalld"});
        let error = refusal(network("asked", &[bridge(0), asked])?.add(&stage.host, &stage.container()?));
        assert_eq!((error.plugin.as_str(), error.code), ("firewall", 11), "{error}");
        network("net", &[bridge(1), json!({"type": "firewall"})])?.add(&stage.host, &stage.container()?)?;
        Ok(())
    });
}
