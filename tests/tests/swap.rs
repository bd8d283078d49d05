//! Containers that the reference's plugins attached, and then the executables are replaced by ours under them; and
//! the way back. Oracles are iptables-save, nft and traffic.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Call, Chain, World, run};
use serde_json::{Value, json};
use zeugma_tests::bin_dir;
use zeugma_tests::stage::{Stage, address, bridge, object, portmap, refusal, with};

/// Where Debian has the reference.
const REFERENCE: &str = "/usr/lib/cni";
/// What iptables may be called.
const IPTABLES: [&str; 2] = ["iptables", "ip6tables"];

/// A node that begins with the reference's plugins.
struct Node<'a> {
    stage: Stage<'a>,
    /// Which iptables the reference finds: `nft` or `legacy`.
    variant: &'static str,
    bin: PathBuf,
    /// Bridge, tuning, portmap and firewall.
    chain: Chain,
}

fn plugins() -> Vec<Value> {
    let bridge = with(bridge(0), json!({"macspoofchk": true}));
    vec![bridge, json!({"type": "tuning", "mtu": 1400}), portmap(), json!({"type": "firewall"})]
}

impl<'a> Node<'a> {
    fn new(world: &'a World) -> Result<Node<'a>> {
        Self::with_iptables(world, "nft")
    }

    fn with_iptables(world: &'a World, variant: &'static str) -> Result<Node<'a>> {
        ensure!(
            Path::new(REFERENCE).join("bridge").exists(),
            "install containernetworking-plugins and iptables"
        );
        let (stage, bin, programs) =
            (Stage::new(world)?, world.dir().join("bin"), world.dir().join("iptables"));
        fs::create_dir(&programs)?;
        for program in IPTABLES {
            symlink(format!("/usr/sbin/{program}-{variant}"), programs.join(program))?;
        }
        fs::create_dir(&bin)?;
        for plugin in fs::read_dir(REFERENCE)? {
            let (plugin, programs) = (plugin?, programs.display());
            let script = format!("#!/bin/sh\nPATH={programs}:$PATH exec {}\n", plugin.path().display());
            let place = bin.join(plugin.file_name());
            fs::write(&place, script)?;
            fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?;
        }
        let chain = chain(&bin, "1.0.0", "net", &plugins())?;
        Ok(Node { stage, variant, bin, chain })
    }

    fn zeugma(&self, words: &[&str]) -> Result<()> {
        let command =
            self.stage.host.command(bin_dir().join("zeugma")).args(words).arg("--bin-dir").arg(&self.bin);
        command.run().map(drop)
    }

    /// Ours take the place of the reference's.
    fn swap(&self) -> Result<()> {
        let ours = bin_dir().join("zeugma-cni").display().to_string();
        self.zeugma(&["install", "--replace", "--from", &ours])
    }

    /// GC of the network, which the reference's version of the chain cannot ask for.
    fn gc(&self, valid: &[&Attachment]) -> Result<()> {
        chain(&self.bin, "1.1.0", "net", &plugins())?.gc(&self.stage.host, valid)
    }

    /// What iptables has, both families, and `bridge nat`, without counters.
    fn rules(&self) -> Result<BTreeSet<String>> {
        let mut rules = BTreeSet::new();
        for program in IPTABLES {
            let listing = self.stage.host.run([format!("{program}-{}-save", self.variant)])?.stdout;
            let lines = listing.lines().filter(|line| line.starts_with("-A") || line.starts_with(":CNI"));
            rules.extend(lines.map(|line| format!("{program} {line}")));
        }
        let guards = self.stage.host.command("nft").args(["list", "table", "bridge", "nat"]).output()?.stdout;
        rules.extend(guards.lines().filter(|line| line.contains("cni-br-iface")).map(str::to_owned));
        Ok(rules)
    }

    /// What version 1.9 of the reference has with nftables.
    fn tables_of_nft(&self) -> Result<String> {
        let table = |name: &str| self.stage.host.nft_table(name);
        Ok(table("ip cni_hostport")? + &table("inet cni_plugins_masquerade")?)
    }

    fn leases(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.chain.leases(&self.stage.host)).into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect()
    }

    fn mtu(&self, attachment: &Attachment) -> Result<u64> {
        let link = attachment.container().ip_json("link show eth0")?;
        link[0]["mtu"].as_u64().context("no MTU")
    }

    /// One plugin's DEL as the runtime asks for it, where no program can be found.
    fn del_without_programs(&self, plugin: &Value, of: &Attachment) -> Result<String> {
        let previous = self.chain.cached(&self.stage.host, of);
        let config = self.chain.config(&self.stage.host, &object(plugin), Some(of), previous.as_ref());
        let name = plugin["type"].as_str().unwrap_or_default();
        let call = Call::new(&self.bin, name, "DEL", &config).of(of).env("PATH", "/nonexistent");
        let outcome = call.output(&self.stage.host)?;
        outcome.result()?;
        Ok(outcome.finished.stderr)
    }
}

fn chain(bin: &Path, version: &str, name: &str, plugins: &[Value]) -> Result<Chain> {
    Chain::new(bin, json!({"cniVersion": version, "name": name, "plugins": plugins}))
}

/// The story on a node with iptables by nf_tables, and on one with iptables by ip_tables.
fn both(story: impl Fn(Node<'_>) -> Result<()> + Send + Sync) {
    for variant in ["nft", "legacy"] {
        run(|world| story(Node::with_iptables(world, variant)?));
    }
}

/// Whether a rule is for this container: its comments, its chains, its addresses.
fn is_about(rule: &str, marks: &[String]) -> bool {
    marks.iter().any(|mark| rule.contains(mark))
}

#[test]
fn check_of_an_old_container_succeeds_until_its_rules_are_damaged() {
    both(|node| {
        let old = node.stage.publishing(&["8080:80", "192.0.2.1:5353:53/udp"])?;
        node.chain.add(&node.stage.host, &old)?;
        node.swap()?;
        node.chain.check(&node.stage.host, &old)?;
        for (plugin, damage) in [
            ("firewall", "iptables -F CNI-FORWARD"),
            ("portmap", "ip6tables -t nat -F CNI-HOSTPORT-DNAT"),
            ("bridge", "iptables -t nat -F POSTROUTING"),
        ] {
            node.stage
                .host
                .run(damage.replacen("tables ", &format!("tables-{} ", node.variant), 1).split(' '))?;
            let error = refusal(node.chain.check(&node.stage.host, &old));
            ensure!((error.plugin.as_str(), error.code) == (plugin, 110), "{damage}: {error}");
        }
        Ok(())
    });
}

#[test]
fn del_of_an_old_container_leaves_nothing_of_it_and_everything_of_the_others() {
    both(|node| {
        let (kept, gone) = (node.stage.publishing(&["8081:80"])?, node.stage.publishing(&["8080:80"])?);
        node.chain.add(&node.stage.host, &kept)?;
        let (before, leases) = (node.rules()?, node.leases());
        node.chain.add(&node.stage.host, &gone)?;
        node.swap()?;
        node.chain.del(&node.stage.host, &gone)?;
        ensure!(
            node.rules()? == before,
            "{:#?}",
            before.symmetric_difference(&node.rules()?).collect::<Vec<_>>()
        );
        ensure!(node.leases() == leases, "{:?}, before {leases:?}", node.leases());
        ensure!(node.stage.host.ip_json("link show master br0")?.as_array().map(Vec::len) == Some(1));
        node.chain.check(&node.stage.host, &kept)?;
        let _server = kept.container().tcp_echo("[::]:80", "kept")?;
        node.stage.client.ask_tcp("192.0.2.1:8081")?;
        node.chain.del(&node.stage.host, &gone)
    });
}

#[test]
fn del_of_an_old_container_needs_no_result() {
    run(|world| {
        let node = Node::new(world)?;
        let (kept, gone) = (node.stage.publishing(&["8081:80"])?, node.stage.publishing(&["8080:80"])?);
        node.chain.add(&node.stage.host, &kept)?;
        let (before, leases) = (node.rules()?, node.leases());
        node.chain.add(&node.stage.host, &gone)?;
        node.swap()?;
        node.chain.forget(&node.stage.host, &gone);
        node.chain.del(&node.stage.host, &gone)?;
        ensure!(
            node.rules()? == before,
            "{:#?}",
            before.symmetric_difference(&node.rules()?).collect::<Vec<_>>()
        );
        ensure!(node.leases() == leases, "{:?}, before {leases:?}", node.leases());
        Ok(())
    });
}

#[test]
fn del_with_the_result_of_another_old_container_leaves_its_firewall_rules() {
    run(|world| {
        let node = Node::new(world)?;
        let plugins = [with(bridge(0), json!({"ipMasq": false})), json!({"type": "firewall"})];
        let old = chain(&node.bin, "1.0.0", "net", &plugins)?;
        let (kept, other) = (node.stage.container()?, node.stage.container()?);
        let result = old.add(&node.stage.host, &kept)?;
        let before = node.rules()?;
        node.swap()?;
        // The directory of leases is no default one in a test.
        let ipam = json!({"ipam": {"type": "host-local", "dataDir": old.leases(&node.stage.host).parent()}});
        let firewall = object(&with(plugins[1].clone(), ipam));
        let config = old.config(&node.stage.host, &firewall, Some(&other), Some(&result));
        Call::new(&node.bin, "firewall", "DEL", &config).of(&other).run(&node.stage.host)?;
        ensure!(node.rules()? == before, "{:#?}", node.rules()?);
        let config = old.config(&node.stage.host, &firewall, Some(&kept), Some(&result));
        Call::new(&node.bin, "firewall", "DEL", &config).of(&kept).run(&node.stage.host)?;
        let (has, left) = (address(&result, 4)?, node.rules()?);
        ensure!(!left.iter().any(|rule| rule.contains(&has)), "{left:#?}");
        Ok(())
    });
}

#[test]
fn tuning_gives_an_old_container_s_link_its_settings_back() {
    run(|world| {
        let node = Node::new(world)?;
        let old = node.stage.container()?;
        node.chain.add(&node.stage.host, &old)?;
        ensure!(node.mtu(&old)? == 1400);
        node.swap()?;
        let tuning = object(&plugins()[1]);
        let previous = node.chain.cached(&node.stage.host, &old);
        let config = node.chain.config(&node.stage.host, &tuning, Some(&old), previous.as_ref());
        Call::new(&node.bin, "tuning", "DEL", &config).of(&old).run(&node.stage.host)?;
        ensure!(node.mtu(&old)? == 1500, "it is {}", node.mtu(&old)?);
        ensure!(fs::read_dir("/run/cni/tuning")?.next().is_none(), "the backup is still there");
        Ok(())
    });
}

#[test]
fn an_old_routed_container_is_checked_and_deleted_too() {
    run(|world| {
        let node = Node::new(world)?;
        let ptp = json!({"type": "ptp", "ipMasq": true, "ipam": bridge(0)["ipam"]});
        let routed = chain(&node.bin, "1.0.0", "routed", &[ptp, portmap()])?;
        let (before, old) = (node.rules()?, node.stage.publishing(&["8080:80"])?);
        routed.add(&node.stage.host, &old)?;
        node.swap()?;
        routed.check(&node.stage.host, &old)?;
        routed.del(&node.stage.host, &old)?;
        let left: Vec<String> = node.rules()?.difference(&before).cloned().collect();
        ensure!(
            !left.iter().any(|rule| is_about(rule, &[old.id().to_owned(), "10.88.0.".to_owned()])),
            "{left:#?}"
        );
        ensure!(
            fs::read_dir(routed.leases(&node.stage.host))?
                .flatten()
                .all(|it| { it.file_name().to_string_lossy().parse::<std::net::IpAddr>().is_err() })
        );
        Ok(())
    });
}

#[test]
fn gc_takes_apart_old_containers_that_are_not_valid_and_no_other() {
    both(|node| {
        let other = chain(&node.bin, "1.0.0", "other", &[bridge(1), portmap(), json!({"type": "firewall"})])?;
        let (valid, stale) = (node.stage.publishing(&["8081:80"])?, node.stage.publishing(&["8080:80"])?);
        let elsewhere = node.stage.publishing(&["8082:80"])?;
        node.chain.add(&node.stage.host, &valid)?;
        other.add(&node.stage.host, &elsewhere)?;
        let (before, leases) = (node.rules()?, node.leases());
        node.chain.add(&node.stage.host, &stale)?;
        node.swap()?;
        stale.container().remove()?;
        node.gc(&[&valid])?;
        ensure!(
            node.rules()? == before,
            "{:#?}",
            before.symmetric_difference(&node.rules()?).collect::<Vec<_>>()
        );
        ensure!(node.leases() == leases, "{:?}, before {leases:?}", node.leases());
        node.chain.check(&node.stage.host, &valid)?;
        other.check(&node.stage.host, &elsewhere)
    });
}

#[test]
fn without_ip_masq_gc_finds_old_firewall_rules_by_the_lease() {
    run(|world| {
        let node = Node::new(world)?;
        let plain = [with(bridge(0), json!({"ipMasq": false})), json!({"type": "firewall"})];
        let (valid, stale) = (node.stage.container()?, node.stage.container()?);
        let old = chain(&node.bin, "1.0.0", "net", &plain)?;
        old.add(&node.stage.host, &valid)?;
        let before = node.rules()?;
        old.add(&node.stage.host, &stale)?;
        node.swap()?;
        chain(&node.bin, "1.1.0", "net", &plain)?.gc(&node.stage.host, &[&valid])?;
        ensure!(
            node.rules()? == before,
            "{:#?}",
            before.symmetric_difference(&node.rules()?).collect::<Vec<_>>()
        );
        Ok(())
    });
}

#[test]
fn new_containers_get_other_addresses_and_reach_the_old_ones() {
    run(|world| {
        let node = Node::new(world)?;
        let (old, new) = (node.stage.container()?, node.stage.container()?);
        let first = node.chain.add(&node.stage.host, &old)?;
        node.swap()?;
        let second = node.chain.add(&node.stage.host, &new)?;
        for family in [4, 6] {
            ensure!(address(&first, family)? != address(&second, family)?, "{first} {second}");
        }
        let _server = old.container().tcp_echo("[::]:80", "old")?;
        new.container().ask_tcp(&format!("{}:80", address(&first, 4)?))?;
        new.container().ask_tcp(&format!("[{}]:80", address(&first, 6)?))?;
        Ok(())
    });
}

#[test]
fn a_port_of_an_old_container_is_refused_until_it_is_deleted() {
    run(|world| {
        let node = Node::new(world)?;
        let (old, new) = (node.stage.publishing(&["8080:80"])?, node.stage.publishing(&["8080:80"])?);
        node.chain.add(&node.stage.host, &old)?;
        node.swap()?;
        let error = refusal(node.chain.add(&node.stage.host, &new));
        ensure!(error.code == 101 && error.msg.contains(old.id()), "{error}");
        node.chain.del(&node.stage.host, &new)?;
        node.chain.del(&node.stage.host, &old)?;
        node.chain.add(&node.stage.host, &new)?;
        let _server = new.container().tcp_echo("[::]:80", "new")?;
        ensure!(node.stage.client.ask_tcp("192.0.2.1:8080")?.starts_with("new"));
        ensure!(node.stage.client.ask_tcp("[2001:db8:1::1]:8080")?.starts_with("new"));
        Ok(())
    });
}

#[test]
fn without_iptables_del_says_what_is_left_and_frees_the_address() {
    run(|world| {
        let node = Node::new(world)?;
        let old = node.stage.publishing(&["8080:80"])?;
        let result = node.chain.add(&node.stage.host, &old)?;
        node.swap()?;
        let ip = address(&result, 4)?;
        for (plugin, left) in [
            (json!({"type": "firewall"}), format!("iptables -D CNI-FORWARD -s {ip}/32 -j ACCEPT")),
            (portmap(), "CNI-DN-".to_owned()),
            (bridge(0), "iptables-save -t nat | grep -v -e CNI-".to_owned()),
        ] {
            let said = node.del_without_programs(&plugin, &old)?;
            ensure!(said.contains(&left) && said.contains("not on PATH"), "{plugin}: {said:?}");
        }
        ensure!(node.leases().is_empty(), "{:?}", node.leases());
        Ok(())
    });
}

#[test]
fn the_command_that_the_warning_names_removes_what_is_left() {
    run(|world| {
        let node = Node::new(world)?;
        let old = node.stage.publishing(&["8080:80"])?;
        let result = node.chain.add(&node.stage.host, &old)?;
        node.swap()?;
        let marks =
            ["CNI-DN-".to_owned(), format!("{}/", address(&result, 4)?), format!("id: \\\"{}", old.id())];
        for plugin in [json!({"type": "firewall"}), portmap(), plugins().remove(0)] {
            for line in node.del_without_programs(&plugin, &old)?.lines() {
                let command = line.split("install it, then: ").nth(1).context("no command")?;
                node.stage.host.run(["sh", "-c", command])?;
            }
        }
        let left: Vec<String> = node.rules()?.into_iter().filter(|rule| is_about(rule, &marks)).collect();
        ensure!(left.is_empty(), "{left:#?}");
        Ok(())
    });
}

#[test]
fn an_attachment_of_ours_is_deleted_without_any_program() {
    run(|world| {
        let node = Node::new(world)?;
        let (old, new) = (node.stage.publishing(&["8080:80"])?, node.stage.publishing(&["8081:80"])?);
        node.chain.add(&node.stage.host, &old)?;
        node.swap()?;
        node.chain.add(&node.stage.host, &new)?;
        for plugin in plugins().iter().rev() {
            let said = node.del_without_programs(plugin, &new)?;
            ensure!(said.is_empty(), "{said}");
        }
        Ok(())
    });
}

#[test]
fn the_reference_s_host_local_goes_on_with_our_leases_and_we_with_its() {
    run(|world| {
        let node = Node::new(world)?;
        let config = object(&bridge(0)["ipam"]);
        let small =
            json!({"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/29"}], config["ranges"][1]]});
        let ipam = json!({"type": "host-local", "ipam": small});
        let leases = chain(&node.bin, "1.0.0", "net", &[ipam])?;
        let mut given = BTreeSet::new();
        for turn in 0..5 {
            let container = node.stage.container()?;
            let result = leases.add(&node.stage.host, &container)?;
            ensure!(given.insert(address(&result, 4)?), "given twice: {result}");
            ensure!(given.insert(address(&result, 6)?), "given twice: {result}");
            if turn % 2 == 0 {
                node.swap()?
            } else {
                node.zeugma(&["uninstall"])?
            }
            leases.check(&node.stage.host, &container)?;
        }
        ensure!(
            leases.add(&node.stage.host, &node.stage.container()?).is_err(),
            "there were only five addresses"
        );
        ensure!(node.leases() == given, "{:?}, given {given:?}", node.leases());
        Ok(())
    });
}

#[test]
fn the_reference_s_host_local_frees_what_ours_leased() {
    run(|world| {
        let node = Node::new(world)?;
        let ipam = json!({"type": "host-local", "ipam": bridge(0)["ipam"]});
        let leases = chain(&node.bin, "1.0.0", "net", &[ipam])?;
        let (gone, kept) = (node.stage.container()?, node.stage.container()?);
        node.swap()?;
        leases.add(&node.stage.host, &gone)?;
        let result = leases.add(&node.stage.host, &kept)?;
        node.zeugma(&["uninstall"])?;
        leases.del(&node.stage.host, &gone)?;
        let left = BTreeSet::from([address(&result, 4)?, address(&result, 6)?]);
        ensure!(node.leases() == left, "{:?}, not {left:?}", node.leases());
        node.swap()?;
        leases.check(&node.stage.host, &kept)?;
        ensure!(leases.check(&node.stage.host, &gone).is_err(), "CHECK of a lease that is gone succeeds");
        Ok(())
    });
}

/// The rules that version 1.9 of the reference writes with nftables, for `eth0` of a container on network `net`.
fn by_nft(stage: &Stage<'_>, id: &str, address: &str, port: u16) -> Result<()> {
    let hash = |text: String| -> Result<String> {
        let sum = stage.host.command("sha512sum").stdin(text).run()?.stdout;
        Ok(sum[..16].to_owned())
    };
    let mark = format!("{}-{}", hash("net".into())?, hash(format!("eth0:{id}"))?);
    stage.host.nft(&format!(
        "add table ip cni_hostport; add table inet cni_plugins_masquerade;
        add chain ip cni_hostport hostports; add chain inet cni_plugins_masquerade masq_checks;
        add chain ip cni_hostport masquerading {{ type nat hook postrouting priority 100; }}
        add rule ip cni_hostport hostports tcp dport {port} dnat to {address}:80 comment \"{id}\"
        add rule ip cni_hostport masquerading ip saddr {address} ip daddr {address} masquerade comment \"{id}\"
        add rule inet cni_plugins_masquerade masq_checks ip saddr == {address} ip daddr != 10.88.0.0/24 \
            masquerade comment \"{mark}, net: net, if: eth0, id: {id}\"\n"
    ))?;
    Ok(())
}

/// A container of version 1.9 with nftables, and what the host has without it; one of another container stays.
fn after_nft(story: impl Fn(&Node<'_>, &Attachment, &Chain) -> Result<()> + Send + Sync) {
    run(|world| {
        let node = Node::new(world)?;
        let plain = [with(bridge(0), json!({"ipMasq": false}))];
        let (valid, old) = (node.stage.publishing(&["8081:80"])?, node.stage.publishing(&["8080:80"])?);
        let kept = chain(&node.bin, "1.0.0", "net", &plain)?.add(&node.stage.host, &valid)?;
        by_nft(&node.stage, valid.id(), &address(&kept, 4)?, 8081)?;
        let before = node.tables_of_nft()?;
        let single = with(bridge(0), json!({"ipam": {"type": "host-local", "subnet": "10.88.0.0/24"}}));
        let attaching = with(single.clone(), json!({"ipMasq": false}));
        let result = chain(&node.bin, "1.0.0", "net", &[attaching])?.add(&node.stage.host, &old)?;
        by_nft(&node.stage, old.id(), &address(&result, 4)?, 8080)?;
        node.swap()?;
        let now = chain(&node.bin, "1.0.0", "net", &[single.clone(), portmap()])?;
        now.remember(&node.stage.host, &old, result);
        story(&node, &old, &now)?;
        chain(&node.bin, "1.1.0", "net", &[single, portmap()])?.gc(&node.stage.host, &[&valid])?;
        let after = node.tables_of_nft()?;
        ensure!(after == before, "before:\n{before}\nafter:\n{after}");
        Ok(())
    });
}

#[test]
fn rules_of_newer_versions_with_nftables_are_checked_and_deleted() {
    after_nft(|node, old, chain| {
        chain.check(&node.stage.host, old)?;
        let new = node.stage.publishing(&["8080:80"])?;
        ensure!(refusal(chain.add(&node.stage.host, &new)).code == 101);
        chain.del(&node.stage.host, &new)?;
        chain.del(&node.stage.host, old)?;
        let left = node.tables_of_nft()?;
        ensure!(
            !left.contains("8080") && left.contains("8081") && left.matches("net: net").count() == 1,
            "{left}"
        );
        Ok(())
    });
}

#[test]
fn rules_of_newer_versions_with_nftables_are_collected() {
    after_nft(|_, _, _| Ok(()));
}
