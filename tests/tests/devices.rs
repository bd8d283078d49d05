//! `tap` makes a device in the container, `host-device` moves one there and brings it back: under its name, with
//! its address and alias, whatever became of the container.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Chain, Host, run};
use serde_json::{Value, json};
use zeugma_tests::stage::{Stage, command, network, object, refusal, with};
use zeugma_tests::{PLUGINS, bin_dir};

fn host_local() -> Value {
    json!({"ipam": {"type": "host-local", "subnet": "10.88.0.0/24"}})
}

fn link(host: &Host, ifname: &str) -> Result<Value> {
    Ok(host.ip_json(&format!("-d link show {ifname}"))?[0].clone())
}

fn names(host: &Host) -> Result<Vec<String>> {
    let links = host.ip_json("link show")?;
    let names = links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
    Ok(names.map(str::to_owned).collect())
}

fn leases(chain: &Chain, host: &Host) -> usize {
    let entries = fs::read_dir(chain.leases(host)).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("10.")).count()
}

fn tap(keys: Value) -> Result<Chain> {
    network("net", &[with(json!({"type": "tap", "capabilities": {"mac": true}}), keys)])
}

#[test]
fn a_tap_persists_with_its_owner_and_queues() {
    run(|world| {
        let (stage, chain) =
            (Stage::new(world)?, tap(json!({"owner": 4242, "group": 4343, "multiQueue": true}))?);
        let container = stage.container()?;
        let result = chain.add(&stage.host, &container)?;
        let link = link(container.container(), "eth0")?;
        let device = &link["linkinfo"]["info_data"];
        assert_eq!((&device["type"], &device["persist"]), (&json!("tap"), &json!(true)), "{device}");
        assert_eq!((&device["multi_queue"], &device["pi"]), (&json!(true), &json!(false)), "{device}");
        let owned = device["user"].to_string() + &device["group"].to_string();
        assert!(owned.contains("4242") && owned.contains("4343"), "{device}");
        assert_eq!(link["address"], result["interfaces"][0]["mac"]);
        assert_eq!(link["mtu"], result["interfaces"][0]["mtu"]);
        chain.check(&stage.host, &container)?;
        chain.del(&stage.host, &container)?;
        assert_eq!(names(container.container())?, ["lo"]);
        chain.del(&stage.host, &container)
    });
}

#[test]
fn a_tap_has_the_addresses_and_sizes_that_were_asked_for() {
    run(|world| {
        let (stage, keys) = (Stage::new(world)?, json!({"mtu": 1400, "mac": "02:00:00:00:00:05"}));
        let chain = tap(with(host_local(), keys))?;
        let container = stage.container()?;
        let result = chain.add(&stage.host, &container)?;
        assert_eq!(link(container.container(), "eth0")?["address"], "02:00:00:00:00:05");
        assert_eq!(link(container.container(), "eth0")?["mtu"], 1400);
        assert_eq!(result["interfaces"][0]["mtu"], 1400);
        let addresses = container.container().ip_json("-4 addr show eth0")?;
        assert_eq!(addresses[0]["addr_info"][0]["local"], "10.88.0.2");
        let asked = stage.container()?.with(json!({"mac": "02:00:00:00:00:06"}));
        chain.add(&stage.host, &asked)?;
        assert_eq!(link(asked.container(), "eth0")?["address"], "02:00:00:00:00:06");
        Ok(())
    });
}

#[test]
fn a_tap_is_a_port_of_the_container_s_bridge() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, tap(json!({"bridge": "br0"}))?);
        let container = stage.container()?;
        let inside = container.container();
        assert_eq!(refusal(chain.add(&stage.host, &container)).code, 114);
        assert_eq!(names(inside)?, ["lo"]);
        inside.ip("link add br0 type bridge")?;
        chain.add(&stage.host, &container)?;
        assert_eq!(link(inside, "eth0")?["master"], "br0");
        chain.check(&stage.host, &container)?;
        inside.ip("link set eth0 nomaster")?;
        assert_eq!(refusal(chain.check(&stage.host, &container)).code, 110);
        Ok(())
    });
}

/// Somebody's TAP device would be opened, not made.
#[test]
fn a_tap_of_somebody_s_is_left_alone() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, tap(host_local())?);
        let container = stage.container()?;
        container.container().ip("tuntap add eth0 mode tap user 1000")?;
        let before = (container.container().residue()?, stage.residue()?);
        assert_eq!(refusal(chain.add(&stage.host, &container)).code, 113);
        container.container().ensure_unchanged(&before.0)?;
        stage.ensure_unchanged(&before.1)
    });
}

#[test]
fn an_owner_that_the_kernel_cannot_have_is_refused_as_such() {
    run(|world| {
        let stage = Stage::new(world)?;
        let container = stage.container()?;
        for key in ["owner", "group"] {
            let error = refusal(tap(json!({key: u32::MAX}))?.add(&stage.host, &container));
            assert!(error.code == 7 && error.msg.contains(&format!("invalid {key}")), "{error}");
        }
        // What the kernel itself finds invalid is told as that: 113 would send the reader after an interface.
        let words = ["--make-tap", "tap7", "4294967295", "-", "-"];
        let made = container.container().command(bin_dir().join("zeugma-cni")).args(words).run();
        let error = made.err().context("nobody owns a device")?;
        assert!(format!("{error:?}").contains("exit status: 22"), "the status is EINVAL: {error:?}");
        assert_eq!(names(container.container())?, ["lo"]);
        Ok(())
    });
}

#[test]
fn an_selinux_label_is_not_ignored() {
    run(|world| {
        let (stage, label) = (Stage::new(world)?, "system_u:system_r:container_t:s0");
        if fs::exists("/sys/fs/selinux/enforce")? {
            return Ok(());
        }
        let container = stage.container()?;
        let error = refusal(tap(json!({"selinuxContext": label}))?.add(&stage.host, &container));
        assert!(error.code == 5 && error.msg.contains("SELinux"), "{error}");
        assert_eq!(names(container.container())?, ["lo"]);
        let words = ["--make-tap", "tap7", "4242", "-", "multi"];
        container.container().command(bin_dir().join("zeugma-cni")).args(words).run()?;
        let device = link(container.container(), "tap7")?["linkinfo"]["info_data"].clone();
        assert!(device["user"].to_string().contains("4242"), "{device}");
        Ok(())
    });
}

const MAC: &str = "02:00:00:00:00:77";

/// The host's interface `dev0`, up, with an address, an alias and a wire to the client's `far0`.
fn device(stage: &Stage<'_>) -> Result<()> {
    stage.world.link((&stage.host, "dev0", "198.51.100.1/24"), (&stage.client, "far0", "10.88.0.254/24"))?;
    stage.host.ip(&format!("link set dev0 address {MAC} mtu 1400"))?;
    stage.host.ip("link set dev0 alias rack-4").map(drop)
}

fn host_device(keys: Value) -> Result<Chain> {
    network("net", &[with(json!({"type": "host-device"}), with(host_local(), keys))])
}

fn by_name() -> Result<Chain> {
    host_device(json!({"device": "dev0"}))
}

/// It is on the host under its name, down, with its address and alias.
fn ensure_home(stage: &Stage<'_>) -> Result<()> {
    let device = link(&stage.host, "dev0")?;
    ensure!(device["address"] == MAC && device["mtu"] == 1400, "{device}");
    ensure!(device["ifalias"] == "rack-4", "{device}");
    ensure!(!device["flags"].to_string().contains("\"UP\""), "{device}");
    Ok(())
}

#[test]
fn a_device_serves_the_container_and_comes_back() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, by_name()?);
        device(&stage)?;
        let container = stage.container()?;
        let result = chain.add(&stage.host, &container)?;
        container.container().ping("10.88.0.254")?;
        let said = &result["interfaces"][0];
        assert_eq!((&said["name"], &said["mac"], &said["mtu"]), (&json!("eth0"), &json!(MAC), &json!(1400)));
        assert_eq!(said["sandbox"], json!(container.container().path()));
        assert_eq!(
            link(container.container(), "eth0")?["ifalias"],
            "dev0",
            "what the reference's DEL goes by"
        );
        chain.check(&stage.host, &container)?;
        chain.del(&stage.host, &container)?;
        ensure_home(&stage)?;
        assert_eq!((names(container.container())?, leases(&chain, &stage.host)), (vec!["lo".to_owned()], 0));
        chain.del(&stage.host, &container)?;
        ensure_home(&stage)
    });
}

#[test]
fn a_device_is_found_by_its_address() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, host_device(json!({"hwaddr": MAC.to_uppercase()}))?);
        device(&stage)?;
        let container = stage.container()?;
        chain.add(&stage.host, &container)?;
        assert_eq!(link(container.container(), "eth0")?["address"], MAC);
        assert_eq!(refusal(chain.add(&stage.host, &stage.container()?)).code, 114, "it is away");
        chain.del(&stage.host, &container)?;
        ensure_home(&stage)
    });
}

/// One verb where /sys is the host's, as it is outside of tests.
fn with_sysfs(stage: &Stage<'_>, verb: &str, container: &Attachment, config: &Value) -> Result<Value> {
    let mount = r#"mount -t sysfs none /sys && exec "$0""#;
    let wrapper = ["unshare", "-m", "sh", "-c", mount].map(str::to_owned);
    let said = command(&stage.host, &wrapper, verb, Some(container), config).run()?.stdout;
    Ok(serde_json::from_str(&said).unwrap_or_default())
}

#[test]
fn a_device_is_found_by_its_place_in_the_kernel_s_tree() {
    run(|world| {
        let stage = Stage::new(world)?;
        device(&stage)?;
        let chain = host_device(json!({}))?;
        // All virtual interfaces are one device's, and this is the first of them.
        let keys = json!({"type": "host-device", "kernelpath": "/sys/devices/virtual"});
        let container = stage.container()?;
        let config = chain.config(&stage.host, &object(&with(host_local(), keys)), Some(&container), None);
        let result = with_sysfs(&stage, "ADD", &container, &config)?;
        assert_eq!(result["interfaces"][0]["mac"], MAC, "{result}");
        with_sysfs(&stage, "DEL", &container, &config)?;
        ensure_home(&stage)
    });
}

#[test]
fn a_pci_device_that_is_missing_is_named() {
    run(|world| {
        let stage = Stage::new(world)?;
        for keys in [json!({"pciBusID": "ffff:ff:1f.7"}), json!({"capabilities": {"deviceID": true}})] {
            let container = stage.container()?.with(json!({"deviceID": "ffff:ff:1f.7"}));
            let error = refusal(host_device(keys)?.add(&stage.host, &container));
            assert!(error.code == 114 && error.msg.contains("ffff:ff:1f.7"), "{error}");
        }
        let nothing = refusal(host_device(json!({}))?.add(&stage.host, &stage.container()?));
        assert!(nothing.code == 7 && nothing.msg.contains("pciBusID"), "{nothing}");
        Ok(())
    });
}

#[test]
fn a_name_that_the_container_has_is_refused_before_anything_moves() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, by_name()?);
        device(&stage)?;
        let container = stage.container()?;
        container.container().ip("link add eth0 type bridge")?;
        let before = (stage.residue()?, link(&stage.host, "dev0")?["flags"].clone());
        assert_eq!(refusal(chain.add(&stage.host, &container)).code, 113);
        stage.ensure_unchanged(&before.0)?;
        assert_eq!(link(&stage.host, "dev0")?["flags"], before.1);
        chain.del(&stage.host, &container)?;
        assert_eq!(link(container.container(), "eth0")?["linkinfo"]["info_kind"], "bridge");
        Ok(())
    });
}

/// Our plugins, and an IPAM that is asked once the interface is there, and fails.
fn with_failing_ipam(stage: &Stage<'_>) -> Result<Chain> {
    let dir = stage.world.dir().join("plugins");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("odd"), "#!/bin/sh\necho '{\"code\": 222, \"msg\": \"out of luck\"}'; exit 1\n")?;
    fs::set_permissions(dir.join("odd"), fs::Permissions::from_mode(0o755))?;
    PLUGINS.iter().try_for_each(|plugin| symlink(bin_dir().join(plugin), dir.join(plugin)))?;
    let plugin = json!({"type": "host-device", "device": "dev0", "ipam": {"type": "odd"}});
    Chain::new(dir, json!({"cniVersion": "1.1.0", "name": "net", "plugins": [plugin]}))
}

#[test]
fn a_failing_ipam_leaves_the_device_as_it_was() {
    run(|world| {
        let stage = Stage::new(world)?;
        device(&stage)?;
        let before = (stage.residue()?, link(&stage.host, "dev0")?["flags"].clone());
        let container = stage.container()?;
        assert_eq!(refusal(with_failing_ipam(&stage)?.add(&stage.host, &container)).code, 222);
        stage.ensure_unchanged(&before.0)?;
        let is_up = |flags: &Value| flags.to_string().contains("\"UP\"");
        assert!(is_up(&before.1) && is_up(&link(&stage.host, "dev0")?["flags"]));
        assert_eq!(names(container.container())?, ["lo"]);
        Ok(())
    });
}

#[test]
fn a_failed_add_gives_the_device_its_routes_and_its_master_again() {
    run(|world| {
        let stage = Stage::new(world)?;
        device(&stage)?;
        stage.host.ip("-6 addr add 2001:db8:7::1/64 dev dev0 nodad")?;
        stage.host.ip("route add 203.0.113.0/24 via 198.51.100.9 metric 7 mtu 1300")?;
        stage.host.ip("route add 198.18.0.0/24 dev dev0 table 77")?;
        stage.host.ip("-6 route add 2001:db8:8::/64 via 2001:db8:7::9 dev dev0")?;
        let failing = with_failing_ipam(&stage)?;
        let before = stage.residue()?;
        assert_eq!(refusal(failing.add(&stage.host, &stage.container()?)).code, 222);
        stage.ensure_unchanged(&before)?;
        stage.host.ip("link add br7 type bridge")?;
        stage.host.ip("link set dev0 master br7")?;
        let before = stage.residue()?;
        assert_eq!(refusal(failing.add(&stage.host, &stage.container()?)).code, 222);
        assert_eq!(link(&stage.host, "dev0")?["master"], "br7");
        stage.ensure_unchanged(&before)
    });
}

#[test]
fn the_device_of_the_host_s_default_route_is_not_given_away() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, by_name()?);
        device(&stage)?;
        stage.host.ip("route replace default via 198.51.100.9")?;
        let before = stage.residue()?;
        let container = stage.container()?;
        let error = refusal(chain.add(&stage.host, &container));
        assert!(error.code == 7 && error.msg.contains("default route"), "{error}");
        stage.ensure_unchanged(&before)?;
        stage.host.ip("route replace default via 192.0.2.2")?;
        chain.add(&stage.host, &container).map(drop)
    });
}

#[test]
fn of_many_adds_at_once_one_gets_the_device() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, by_name()?);
        device(&stage)?;
        let containers = (0..8).map(|_| stage.container()).collect::<Result<Vec<_>>>()?;
        let outcomes: Vec<Result<Value>> = thread::scope(|scope| {
            let (chain, host) = (&chain, &stage.host);
            let add = |container| scope.spawn(move || chain.add(host, container));
            let adds: Vec<_> = containers.iter().map(add).collect();
            adds.into_iter().map(|add| add.join().expect("no panic")).collect()
        });
        let (served, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!(served.len(), 1);
        for error in refused.into_iter().map(refusal) {
            assert!(error.code == 114 && error.msg.contains("another container"), "{error}");
        }
        assert_eq!(leases(&chain, &stage.host), 1);
        containers.iter().try_for_each(|container| chain.del(&stage.host, container))?;
        ensure_home(&stage)
    });
}

fn ensure_lease_returned(netns: fn(Attachment) -> Attachment) {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, by_name()?);
        device(&stage)?;
        let container = stage.container()?;
        chain.add(&stage.host, &container)?;
        assert_eq!(leases(&chain, &stage.host), 1);
        container.container().remove()?;
        let container = netns(container);
        chain.del(&stage.host, &container)?;
        assert_eq!(leases(&chain, &stage.host), 0);
        chain.del(&stage.host, &container)
    });
}

#[test]
fn a_vanished_namespace_gives_the_address_back() {
    ensure_lease_returned(|container| container);
    ensure_lease_returned(Attachment::without_netns);
}

/// The kernel moves hardware back to the host under some name when a namespace ends.
#[test]
fn a_device_that_the_kernel_brought_back_gets_its_name_again() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, by_name()?);
        device(&stage)?;
        let container = stage.container()?;
        chain.add(&stage.host, &container)?;
        let home = stage.host.path().display();
        container.container().ip(&format!("link set eth0 netns {home} name dev99"))?;
        container.container().remove()?;
        chain.del(&stage.host, &container.without_netns())?;
        ensure_home(&stage)
    });
}

#[test]
fn a_device_whose_name_is_taken_comes_back_under_another() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, by_name()?);
        device(&stage)?;
        let container = stage.container()?;
        chain.add(&stage.host, &container)?;
        stage.host.ip("link add dev0 type bridge")?;
        chain.del(&stage.host, &container)?;
        assert_eq!(names(container.container())?, ["lo"]);
        let links = stage.host.ip_json("link show")?;
        let mut links = links.as_array().into_iter().flatten();
        let ours = links.find(|link| link["address"] == MAC).context("the device is on the host")?;
        assert_eq!(ours["ifalias"], "dev0", "{ours}");
        Ok(())
    });
}

const REFERENCE: &str = "/usr/lib/cni";

/// Adds with one directory's plugin and deletes with another's; the device has its name afterwards, and no lease.
fn ensure_swapped(add: &Path, del: &Path) {
    if !Path::new(REFERENCE).join("host-device").exists() {
        eprintln!("SKIPPED: no reference plugins in {REFERENCE} (Debian: containernetworking-plugins)");
        return;
    }
    run(|world| {
        let stage = Stage::new(world)?;
        device(&stage)?;
        let plugin = with(json!({"type": "host-device", "device": "dev0"}), host_local());
        let list = json!({"cniVersion": "1.0.0", "name": "net", "plugins": [plugin]});
        let (add, del) = (Chain::new(add, list.clone())?, Chain::new(del, list)?);
        let container = stage.container()?;
        add.add(&stage.host, &container)?;
        del.del(&stage.host, &container)?;
        assert_eq!(link(&stage.host, "dev0")?["address"], MAC);
        assert_eq!((names(container.container())?, leases(&add, &stage.host)), (vec!["lo".to_owned()], 0));
        Ok(())
    });
}

#[test]
fn a_device_of_the_reference_s_comes_back() {
    ensure_swapped(Path::new(REFERENCE), bin_dir());
}

#[test]
fn the_reference_brings_a_device_of_ours_back() {
    ensure_swapped(bin_dir(), Path::new(REFERENCE));
}

/// What lost its record is known by its alias.
#[test]
fn a_device_without_a_record_comes_back_by_its_alias() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, by_name()?);
        device(&stage)?;
        let container = stage.container()?;
        chain.add(&stage.host, &container)?;
        fs::remove_dir_all(stage.host.run_dir().join("attachments"))?;
        chain.del(&stage.host, &container)?;
        let device = link(&stage.host, "dev0")?;
        assert!(device["address"] == MAC && device["ifalias"].is_null(), "{device}");
        Ok(())
    });
}

#[test]
fn two_devices_that_swapped_names_both_come_back() {
    run(|world| {
        let stage = Stage::new(world)?;
        let container = stage.container()?;
        let mut chains = Vec::new();
        for (device, ifname) in [("dev1", "dev2"), ("dev2", "dev1")] {
            stage.host.ip(&format!("link add {device} type veth peer name far-{device}"))?;
            let attachment = container.container().attachment("both", ifname);
            let plugin = json!({"type": "host-device", "device": device});
            chains.push((network(device, &[plugin])?, attachment));
        }
        let before = stage.residue()?;
        chains.iter().try_for_each(|(chain, one)| chain.add(&stage.host, one).map(drop))?;
        chains.iter().try_for_each(|(chain, one)| chain.del(&stage.host, one))?;
        stage.ensure_unchanged(&before)
    });
}

#[test]
fn gc_brings_the_device_of_a_lost_container_back() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, by_name()?);
        device(&stage)?;
        let container = stage.container()?;
        chain.add(&stage.host, &container)?;
        chain.gc(&stage.host, &[&container])?;
        chain.check(&stage.host, &container)?;
        container.container().ip(&format!("link set eth0 address {}", "02:00:00:00:00:78"))?;
        assert_eq!(refusal(chain.check(&stage.host, &container)).code, 110);
        container.container().ip(&format!("link set eth0 address {MAC}"))?;
        chain.gc(&stage.host, &[])?;
        ensure_home(&stage)?;
        assert_eq!(leases(&chain, &stage.host), 0);
        Ok(())
    });
}

#[test]
fn a_container_s_own_link_of_the_device_s_name_stays_in_it() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, by_name()?);
        device(&stage)?;
        let container = stage.container()?;
        let inside = container.container();
        chain.add(&stage.host, &container)?;
        inside.ip("link set eth0 down")?;
        inside.ip("link set eth0 name phys")?;
        inside.ip("link add eth0 type veth peer name eth1")?;
        chain.del(&stage.host, &container)?;
        ensure_home(&stage)?;
        ensure!(names(inside)?.contains(&"eth0".to_owned()), "{:?}", names(inside)?);
        ensure!(!names(inside)?.contains(&"phys".to_owned()), "{:?}", names(inside)?);
        Ok(())
    });
}

/// The alias can be the container's own word.
#[test]
fn an_alias_alone_moves_nothing_to_the_host() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, by_name()?);
        let container = stage.container()?;
        container.container().ip("link add eth0 type veth peer name eth1")?;
        container.container().ip("link set eth0 alias cni7")?;
        let before = (stage.residue()?, container.container().residue()?);
        chain.del(&stage.host, &container)?;
        stage.ensure_unchanged(&before.0)?;
        container.container().ensure_unchanged(&before.1)
    });
}
