//! Faults that the reference plugins and netavark have, and ours must not. What is not tested here is tested with the
//! plugin itself, in the file that is named:
//!
//! 1. panics without an error object where keys are missing: `a_config_that_lacks_everything_…`
//! 2. DEL of a vanished namespace fails, or makes a file at its path: `del_with_a_vanished_namespace_…`
//! 3. host-device leaks the address then, and with empty CNI_NETNS: devices.rs `a_vanished_namespace_gives_…`; the
//!    others: `del_without_namespace_…`
//! 4. a link stays behind when the IPAM or masquerade fails, and the next ADD says that it exists:
//!    `an_ipam_that_fails_…`, `a_masquerade_that_fails_…`; every plugin with an interface: the conformance suite
//! 5. first ADDs race for chains: `first_adds_at_once_…`
//! 6. arguments for one plugin are an error in another: `a_mac_in_cni_args_…`
//! 7. a refused ipvlan inside of a container is told as something else: `an_ipvlan_that_the_kernel_refuses_…`
//! 8. host-local reads every lease: `leases_of_others_…`
//! 9. teardown runs iptables and nft: `no_verb_runs_another_program`
//! 10. no GC: `gc_leaves_nothing_…`; leases of dhcp: dhcp.rs `leases_outlive_the_daemon_…`; ifbs: bandwidth.rs
//! 11. 16 teardowns disturb one another: `sixteen_dels_…`

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use anyhow::{Result, ensure};
use netns_fixtures::{Attachment, Call, Chain, run};
use serde_json::{Value, json};
use zeugma_tests::stage::{Stage, bridge, command, firewall, network, portmap, refusal, with};
use zeugma_tests::{PLUGINS, bin_dir};

fn whole_chain() -> Result<Chain> {
    let (tuning, sbr) = (json!({"type": "tuning", "mtu": 1400}), json!({"type": "sbr"}));
    network("net", &[bridge(0), portmap(), firewall("isolated"), tuning, sbr])
}

/// Every attachment at once; all errors.
fn at_once(containers: &[Attachment], verb: impl Fn(&Attachment) -> Result<()> + Sync) -> Vec<String> {
    thread::scope(|scope| {
        let calls: Vec<_> = containers.iter().map(|one| scope.spawn(|| verb(one))).collect();
        let ends = calls.into_iter().filter_map(|call| call.join().expect("the call does not panic").err());
        ends.map(|error| format!("{error:#}")).collect()
    })
}

#[test]
fn a_config_that_lacks_everything_is_an_error_object_and_no_panic() {
    run(|world| {
        let stage = Stage::new(world)?;
        world.shadow("/var/lib")?;
        // These have nothing that they cannot do without.
        let modest = ["loopback", "bridge", "macvlan", "ipvlan", "tap"];
        for plugin in PLUGINS.iter().filter(|plugin| !modest.contains(plugin)) {
            let config = json!({"cniVersion": "1.1.0", "name": "net", "type": plugin});
            for verb in ["ADD", "CHECK"] {
                let call = Call::new(bin_dir(), plugin, verb, &config).of(&stage.container()?);
                let error = refusal(call.run(&stage.host));
                ensure!(!error.msg.is_empty(), "{verb}: {error}");
            }
            let call = Call::new(bin_dir(), plugin, "DEL", &config).of(&stage.container()?);
            call.run(&stage.host)?;
        }
        Ok(())
    });
}

#[test]
fn del_with_a_vanished_namespace_succeeds_and_creates_no_file() {
    run(|world| {
        let (tuning, sbr) = (json!({"type": "tuning"}), json!({"type": "sbr"}));
        let resolver = json!({"type": "resolver", "mode": "container"});
        let plugins = [bridge(0), portmap(), firewall("isolated"), tuning, sbr, resolver];
        let (stage, chain) = (Stage::new(world)?, network("net", &plugins)?);
        let never = stage.container()?;
        let container = stage.publishing(&["8080:80"])?;
        chain.add(&stage.host, &container)?;
        for gone in [&never, &container] {
            gone.container().remove()?;
            chain.del(&stage.host, gone)?;
            chain.del(&stage.host, gone)?;
            ensure!(!gone.container().path().exists(), "DEL made {}", gone.container().path().display());
        }
        assert!(fs::read_dir(stage.host.run_dir().join("ports"))?.next().is_none());
        Ok(())
    });
}

#[test]
fn del_without_namespace_gives_the_address_back() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, whole_chain()?);
        chain.add(&stage.host, &stage.publishing(&["8081:80"])?)?;
        let before = stage.residue()?;
        let container = stage.publishing(&["8080:80"])?;
        chain.add(&stage.host, &container)?;
        chain.forget(&stage.host, &container);
        chain.del(&stage.host, &container.clone().without_netns())?;
        stage.ensure_unchanged(&before)
    });
}

/// A directory with our plugins and an IPAM that fails, or that gives no address.
fn with_ipam(stage: &Stage<'_>, script: &str, plugin: Value) -> Result<Chain> {
    let dir = stage.world.dir().join("plugins");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("odd"), format!("#!/bin/sh\n{script}\n"))?;
    fs::set_permissions(dir.join("odd"), fs::Permissions::from_mode(0o755))?;
    for plugin in PLUGINS {
        std::os::unix::fs::symlink(bin_dir().join(plugin), dir.join(plugin))?;
    }
    let plugin = with(plugin, json!({"ipam": {"type": "odd"}}));
    Chain::new(dir, json!({"cniVersion": "1.1.0", "name": "net", "plugins": [plugin]}))
}

/// The plugins that make an interface out of what this kernel has.
fn interfaces() -> [Value; 3] {
    [bridge(0), json!({"type": "ptp", "ipMasq": true}), json!({"type": "macvlan", "master": "eth0"})]
}

/// Twice: the second ADD must fail as the first did, not because something is there already.
fn ensure_no_link_after(script: &str, code: u64) {
    for plugin in interfaces() {
        run(|world| {
            let stage = Stage::new(world)?;
            let (chain, container) = (with_ipam(&stage, script, plugin.clone())?, stage.container()?);
            let before = (stage.residue()?, container.container().residue()?);
            for _ in 0..2 {
                let error = refusal(chain.add(&stage.host, &container));
                assert_eq!(error.code, code, "{plugin}: {error}");
                stage.ensure_unchanged(&before.0)?;
                container.container().ensure_unchanged(&before.1)?;
            }
            Ok(())
        });
    }
}

#[test]
fn a_masquerade_that_fails_leaves_no_link() {
    for plugin in &interfaces()[..2] {
        run(|world| {
            let (stage, container) = (Stage::new(world)?, stage_container(world)?);
            stage.host.nft("add table inet zeugma")?;
            // Forwarding stays on by design.
            stage.host.set_sysctl("net.ipv4.ip_forward", "1")?;
            stage.host.set_sysctl("net.ipv6.conf.all.forwarding", "1")?;
            let chain = network("net", &[with(plugin.clone(), json!({"ipam": bridge(0)["ipam"]}))])?;
            let before = (stage.residue()?, container.container().residue()?);
            for _ in 0..2 {
                let error = refusal(chain.add(&stage.host, &container));
                assert!(error.msg.contains("table inet zeugma lacks"), "{plugin}: {error}");
                stage.ensure_unchanged(&before.0)?;
                container.container().ensure_unchanged(&before.1)?;
            }
            Ok(())
        });
    }
}

/// Kernels without ipvlan refuse the kind, those with it the master; neither is "Link not found".
#[test]
fn an_ipvlan_that_the_kernel_refuses_in_a_container_is_called_by_its_name() {
    run(|world| {
        let (stage, container) = (Stage::new(world)?, stage_container(world)?);
        let ipvlan =
            json!({"type": "ipvlan", "master": "lo", "linkInContainer": true, "ipam": bridge(0)["ipam"]});
        let chain = network("net", &[ipvlan])?;
        let before = (stage.residue()?, container.container().residue()?);
        let error = refusal(chain.add(&stage.host, &container));
        assert!(error.msg.contains("type ipvlan"), "{error}");
        assert!(!error.msg.contains("rename") && !error.msg.contains("not found"), "{error}");
        stage.ensure_unchanged(&before.0)?;
        container.container().ensure_unchanged(&before.1)
    });
}

/// How often a verb of host-local opens a file that is named as an address of 10.88.0.0/16.
fn lease_opens(stage: &Stage<'_>, verb: &str, container: &Attachment, config: &Value) -> Result<usize> {
    let log = stage.world.dir().join("opens");
    let strace = ["strace", "-f", "-qq", "-e", "trace=openat", "-o"].map(str::to_owned);
    let words: Vec<String> = strace.into_iter().chain([log.display().to_string()]).collect();
    command(&stage.host, &words, verb, Some(container), config).run()?;
    Ok(fs::read_to_string(&log)?.lines().filter(|line| line.contains("/10.88.")).count())
}

#[test]
fn leases_of_others_are_not_read() {
    run(|world| {
        let stage = Stage::new(world)?;
        let ipam = leases_in(&stage, &json!({"type": "host-local", "subnet": "10.88.0.0/16"}));
        let config = json!({"cniVersion": "1.0.0", "name": "net", "type": "host-local", "ipam": ipam});
        let leases = stage.host.run_dir().join("networks/net");
        fs::create_dir_all(&leases)?;
        for number in 0..1000 {
            let lease = leases.join(format!("10.88.{}.{}", 9 + number / 250, number % 250));
            fs::write(lease, format!("other{number}\r\neth0"))?;
        }
        let (first, second, never) = (stage.container()?, stage.container()?, stage.container()?);
        lease_opens(&stage, "ADD", &first, &config)?;
        for (verb, container) in [("ADD", &second), ("DEL", &never), ("DEL", &second)] {
            let opens = lease_opens(&stage, verb, container, &config)?;
            assert!(opens <= 2, "{verb}: {opens} leases opened");
        }
        Ok(())
    });
}

#[test]
fn an_ipam_that_fails_leaves_no_link() {
    ensure_no_link_after(r#"echo '{"code": 222, "msg": "out of luck"}'; exit 1"#, 222);
}

#[test]
fn an_ipam_that_says_nothing_useful_leaves_no_link() {
    ensure_no_link_after(r#"echo '{"cniVersion": "1.1.0", "ips": []}'"#, 102);
}

#[test]
fn first_adds_at_once_do_not_race_for_the_ruleset() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, whole_chain()?);
        let ports: Vec<String> = (0..8).map(|number| format!("{}:80", 8080 + number)).collect();
        let containers = ports.iter().map(|port| stage.publishing(&[port])).collect::<Result<Vec<_>>>()?;
        let errors = at_once(&containers, |one| chain.add(&stage.host, one).map(drop));
        assert_eq!(errors, [""; 0]);
        containers.iter().try_for_each(|one| chain.check(&stage.host, one))
    });
}

#[test]
fn sixteen_dels_at_once_all_succeed() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, whole_chain()?);
        let ports: Vec<String> = (0..16).map(|number| format!("{}:80", 8080 + number)).collect();
        let containers = ports.iter().map(|port| stage.publishing(&[port])).collect::<Result<Vec<_>>>()?;
        chain.add(&stage.host, &stage.publishing(&["9000:80"])?)?;
        let before = stage.residue()?;
        assert_eq!(at_once(&containers, |one| chain.add(&stage.host, one).map(drop)), [""; 0]);
        assert_eq!(at_once(&containers, |one| chain.del(&stage.host, one)), [""; 0]);
        stage.ensure_unchanged(&before)
    });
}

#[test]
fn a_mac_in_cni_args_does_not_disturb_the_ipam() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, network("net", &[bridge(0)])?);
        let container = stage.container()?.args("MAC=02:00:00:00:00:09");
        let result = chain.add(&stage.host, &container)?;
        assert_eq!(result["interfaces"][2]["mac"], "02:00:00:00:00:09");
        chain.del(&stage.host, &container)?;
        let fixed = json!({"type": "static", "addresses": [{"address": "10.9.9.9/24"}]});
        let chain = network("fixed", &[with(bridge(0), json!({"ipam": fixed, "isDefaultGateway": false}))])?;
        chain.add(&stage.host, &container)?;
        chain.del(&stage.host, &container)
    });
}

#[test]
fn no_verb_runs_another_program() {
    run(|world| {
        let (stage, container) = (Stage::new(world)?, stage_container(world)?);
        let list = json!({"name": "net", "cniVersion": "1.1.0", "macspoofchk": true, "cni.dev/valid-attachments": []});
        let ports = json!({"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}});
        let first =
            with(with(bridge(0), list.clone()), json!({"ipam": leases_in(&stage, &bridge(0)["ipam"])}));
        let mut chain = vec![first];
        chain.extend([with(portmap(), ports), firewall("isolated"), json!({"type": "tuning", "mtu": 1400})]);
        let mut previous = Value::Null;
        for verb in ["ADD", "CHECK", "DEL", "GC", "STATUS"] {
            for plugin in &chain {
                let config = with(with(plugin.clone(), list.clone()), json!({"prevResult": previous}));
                let printed = ensure_one_exec(&stage, verb, &container, &config)?;
                if verb == "ADD" {
                    previous = serde_json::from_str(&printed)?;
                }
            }
        }
        Ok(())
    });
}

/// Runs a verb and demands that the plugin itself is the only program that is started.
fn ensure_one_exec(stage: &Stage<'_>, verb: &str, of: &Attachment, config: &Value) -> Result<String> {
    let log = stage.world.dir().join("execs");
    let strace = ["strace", "-f", "-qq", "-e", "trace=execve", "-o"].map(str::to_owned);
    let words: Vec<String> = strace.into_iter().chain([log.display().to_string()]).collect();
    let finished = command(&stage.host, &words, verb, Some(of), config).run()?;
    let execs = fs::read_to_string(&log)?;
    ensure!(execs.matches("execve(").count() == 1, "{verb} of {}: {execs}", config["type"]);
    Ok(finished.stdout)
}

fn stage_container(world: &netns_fixtures::World) -> Result<Attachment> {
    Ok(world.container("alone")?.attachment("alone", "eth0"))
}

fn leases_in(stage: &Stage<'_>, ipam: &Value) -> Value {
    with(ipam.clone(), json!({"dataDir": stage.host.run_dir().join("networks")}))
}

#[test]
fn gc_leaves_nothing_of_ours_but_the_constant_ruleset() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, whole_chain()?);
        let cycle = || -> Result<()> {
            let containers = [stage.publishing(&["8080:80"])?, stage.publishing(&["8081:80"])?];
            containers.iter().try_for_each(|one| chain.add(&stage.host, one).map(drop))?;
            chain.gc(&stage.host, &[])
        };
        cycle()?;
        let before = stage.residue()?;
        assert!(!format!("{before:?}").contains("br0"), "{before:?}");
        cycle()?;
        stage.ensure_unchanged(&before)
    });
}
