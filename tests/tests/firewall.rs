//! Who may reach a container through the host: ingress policies in both families, with and without
//! br_netfilter, and firewalld where it runs.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use netns_fixtures::{Attachment, Host, Running, Server, eventually, run};
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

const BUS: &str = r#"<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <policy context="default">
    <allow user="*"/><allow own="*"/>
    <allow send_destination="*"/><allow receive_sender="*"/>
    <allow send_type="signal"/><allow receive_type="signal"/>
    <allow send_requested_reply="true"/><allow receive_requested_reply="true"/>
  </policy>
</busconfig>
"#;

/// firewalld on a bus of its own: `/run` is the world's, its configuration a copy.
struct Firewalld {
    _bus: Running,
    daemon: Running,
}

impl Firewalld {
    fn start(stage: &Stage<'_>) -> Result<Firewalld> {
        let config = stage.world.dir().join("bus.xml");
        fs::write(&config, BUS)?;
        fs::create_dir_all("/run/dbus")?;
        for path in ["/etc/firewalld", "/var/log"] {
            stage.world.shadow(path)?;
        }
        let bus = format!("--config-file={}", config.display());
        let bus = stage.host.spawn(["dbus-daemon", "--nofork", "--nopidfile", &bus])?;
        ensure!(
            eventually(Duration::from_secs(5), || fs::exists("/run/dbus/system_bus_socket").unwrap_or(false))
        );
        let daemon = stage.host.spawn(["firewalld", "--nofork", "--nopid"])?;
        let firewalld = Firewalld { _bus: bus, daemon };
        let is_up = || stage.host.run(["firewall-cmd", "--state"]).is_ok();
        ensure!(eventually(Duration::from_secs(20), is_up), "no firewalld: {}", firewalld.daemon.log());
        Ok(firewalld)
    }
}

fn trusted(host: &Host) -> Result<String> {
    Ok(host.run(["firewall-cmd", "--zone=trusted", "--list-sources"])?.stdout.trim().to_owned())
}

fn is_missing(programs: &[&str]) -> bool {
    let is_there = |program: &&str| {
        ["/usr/bin", "/usr/sbin"].iter().any(|dir| fs::exists(format!("{dir}/{program}")).unwrap_or(false))
    };
    let missing: Vec<_> = programs.iter().filter(|program| !is_there(program)).collect();
    if !missing.is_empty() {
        eprintln!("SKIPPED: {missing:?} not installed (Debian: dbus, firewalld)");
    }
    !missing.is_empty()
}

#[test]
fn firewalld_trusts_a_container_until_del() {
    if is_missing(&["dbus-daemon", "firewalld"]) {
        return;
    }
    run(|world| {
        let stage = Stage::new(world)?;
        let firewalld = Firewalld::start(&stage)?;
        let chain = network("net", &[bridge(0), portmap(), json!({"type": "firewall"})])?;
        let web = stage.publishing(&["8080:80"])?;
        assert_eq!(trusted(&stage.host)?, "");
        let result = chain.add(&stage.host, &web)?;
        let sources = trusted(&stage.host)?;
        assert!(
            sources.contains(&address(&result, 4)?) && sources.contains(&address(&result, 6)?),
            "{sources}"
        );
        chain.check(&stage.host, &web)?;
        let _server = web.container().tcp_echo("[::]:80", "web")?;
        assert_eq!(stage.client.ask_tcp("192.0.2.1:8080")?, "web 192.0.2.2", "{}", firewalld.daemon.log());
        chain.del(&stage.host, &web)?;
        assert_eq!(trusted(&stage.host)?, "");
        Ok(())
    });
}

#[test]
fn firewalld_in_another_zone_and_gc() {
    if is_missing(&["dbus-daemon", "firewalld"]) {
        return;
    }
    run(|world| {
        let stage = Stage::new(world)?;
        let _firewalld = Firewalld::start(&stage)?;
        let firewall = json!({"type": "firewall", "backend": "firewalld", "firewalldZone": "internal"});
        let chain = network("net", &[bridge(0), firewall])?;
        let web = stage.container()?;
        let result = chain.add(&stage.host, &web)?;
        let sources = || stage.host.run(["firewall-cmd", "--zone=internal", "--list-sources"]);
        assert!(sources()?.stdout.contains(&address(&result, 4)?));
        chain.status(&stage.host)?;
        web.container().remove()?;
        chain.gc(&stage.host, &[])?;
        assert_eq!(sources()?.stdout.trim(), "");
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
