//! `firewall` beside firewalld: whom it trusts, and for how long. Apart from firewall.rs, whose tests run in places
//! where no firewalld is.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use netns_fixtures::{Host, Running, eventually, run};
use serde_json::json;
use zeugma_tests::agent::{Agent, SOON};
use zeugma_tests::stage::{Stage, address, bridge, network, portmap};
use zeugma_tests::{bin_dir, bus};

/// firewalld on a bus of its own: `/run` is the world's, its configuration a copy.
struct Firewalld {
    _bus: Running,
    daemon: Running,
}

impl Firewalld {
    fn start(stage: &Stage<'_>) -> Result<Firewalld> {
        for path in ["/etc/firewalld", "/var/log"] {
            stage.world.shadow(path)?;
        }
        let bus = bus::start(stage)?;
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

/// Reloads it and waits until it answers again.
fn reload(host: &Host) -> Result<()> {
    host.run(["firewall-cmd", "--reload"])?;
    ensure!(eventually(SOON, || host.run(["firewall-cmd", "--state"]).is_ok()));
    Ok(())
}

#[test]
fn firewalld_trusts_a_container_again_after_a_reload() {
    if is_missing(&["dbus-daemon", "firewalld"]) {
        return;
    }
    run(|world| {
        let stage = Stage::new(world)?;
        let _firewalld = Firewalld::start(&stage)?;
        let chain = network("net", &[bridge(0), portmap(), json!({"type": "firewall"})])?;
        let web = stage.publishing(&["8080:80"])?;
        chain.add(&stage.host, &web)?;
        let sources = trusted(&stage.host)?;
        reload(&stage.host)?;
        ensure!(trusted(&stage.host)?.is_empty(), "firewalld remembers");
        let steps = stage.host.command(bin_dir().join("zeugma")).arg("repair").run()?.stdout;
        ensure!(trusted(&stage.host)? == sources && steps.contains("--add-source"), "{steps}");
        let agent = Agent::start(&stage.host)?;
        // The agent listens once it has seen the container's record.
        ensure!(eventually(SOON, || agent.process.log().contains("firewalld is listened to")));
        reload(&stage.host)?;
        let is_trusted = || trusted(&stage.host).is_ok_and(|now| now == sources);
        ensure!(eventually(SOON, is_trusted), "{}", agent.process.log());
        Ok(())
    });
}
