//! `dhcp`: the plugin, its daemon and a real server (dnsmasq), each in its own namespace. The interface is made by
//! hand here; how interface plugins use it is theirs to promise.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Chain, Host, Running, World, eventually, run};
use serde_json::{Value, json};
use zeugma_tests::bin_dir;
use zeugma_tests::stage::{address, command, network, object, refusal, with};

/// Longer than a renewal takes that is due every three seconds.
const SOON: Duration = Duration::from_secs(20);
/// T1, so that a renewal is seen in seconds: dnsmasq's shortest lease is two minutes, its shortest T1 three seconds.
const HASTY: &[&str] = &["--dhcp-option-force=58,3s"];

/// A host with a bridge, a DHCP server on it, and the daemon on the host.
struct Lab<'a> {
    world: &'a World,
    host: Host,
    server: Host,
    socket: PathBuf,
}

impl<'a> Lab<'a> {
    fn new(world: &'a World) -> Result<Lab<'a>> {
        let (host, server) = (world.host("host")?, world.host("server")?);
        host.ip("link add br0 type bridge")?;
        host.ip("link set br0 up")?;
        world.link((&host, "uplink", ""), (&server, "eth0", "10.99.0.1/24"))?;
        host.ip("link set uplink master br0")?;
        let socket = host.run_dir().join("dhcp.sock");
        Ok(Lab { world, host, server, socket })
    }

    /// A container with `eth0` on the bridge, without an address.
    fn container(&self, name: &str) -> Result<Attachment> {
        let container = self.world.container(name)?;
        self.world.link((&self.host, name, ""), (&container, "eth0", ""))?;
        self.host.ip(&format!("link set {name} master br0"))?;
        Ok(container.attachment(name, "eth0"))
    }

    fn daemon(&self, flags: &[&str]) -> Result<Running> {
        let zeugma = self.host.command(bin_dir().join("zeugma")).args(["dhcp", "--socketpath"]);
        let daemon = zeugma.arg(&self.socket).args(flags).spawn()?;
        ensure!(eventually(SOON, || daemon.log().contains("listening")), "{}", daemon.log());
        Ok(daemon)
    }

    fn leases_file(&self) -> PathBuf {
        self.server.run_dir().join("leases")
    }

    fn dnsmasq(&self, options: &[&str]) -> Result<Running> {
        let range = "--dhcp-range=10.99.0.20,10.99.0.90,255.255.255.0,2m";
        self.dnsmasq_with(range, options)
    }

    fn dnsmasq_with(&self, range: &str, options: &[&str]) -> Result<Running> {
        let fixed = [
            "--no-daemon",
            "--conf-file=/dev/null",
            "--port=0",
            "--interface=eth0",
            "--bind-interfaces",
            "--no-ping",
            "--user=root",
            "--pid-file=",
            "--log-dhcp",
            "--dhcp-authoritative",
        ];
        let file = format!("--dhcp-leasefile={}", self.leases_file().display());
        let server = self.server.command("dnsmasq").args(fixed).arg(file).arg(range).args(options).spawn()?;
        ensure!(eventually(SOON, || server.log().contains("sockets bound")), "{}", server.log());
        Ok(server)
    }

    /// What the server has leased: its own file, a line each.
    fn leased(&self) -> Vec<String> {
        let text = fs::read_to_string(self.leases_file()).unwrap_or_default();
        text.lines().filter(|line| line.contains("10.99.0.")).map(str::to_owned).collect()
    }

    /// The daemon's own files of leases.
    fn records(&self) -> Result<String> {
        Ok(self
            .host
            .command("find")
            .arg(self.host.run_dir().join("dhcp"))
            .args(["-type", "f"])
            .output()?
            .stdout)
    }

    fn chain(&self, ipam: Value) -> Result<Chain> {
        let ipam = with(json!({"type": "dhcp", "daemonSocketPath": self.socket}), ipam);
        network("net", &[json!({"type": "dhcp", "ipam": ipam})])
    }

    /// ADD, and what an interface plugin does then.
    fn attach(&self, chain: &Chain, container: &Attachment) -> Result<String> {
        let result = chain.add(&self.host, container)?;
        let cidr = result["ips"][0]["address"].as_str().context("an address")?.to_owned();
        container.container().ip(&format!("addr add {cidr} dev eth0"))?;
        Ok(cidr)
    }
}

fn acknowledged(server: &Running) -> usize {
    server.log().matches("DHCPACK(").count()
}

fn has_address(container: &Attachment, cidr: &str) -> Result<bool> {
    Ok(container.container().run(["ip", "-o", "addr", "show", "eth0"])?.stdout.contains(cidr))
}

#[test]
fn address_route_and_dns_of_the_server_are_the_result() {
    run(|world| {
        let lab = Lab::new(world)?;
        let names = "--dhcp-option=option:domain-search,eng.example.com,example.com";
        let dns = ["--dhcp-option=6,10.99.0.53,10.99.1.53", "--dhcp-option=15,example.com", names];
        let (_server, _daemon) = (lab.dnsmasq(&dns)?, lab.daemon(&[])?);
        let result = lab.chain(json!({}))?.add(&lab.host, &lab.container("c0")?)?;
        let ip = &result["ips"][0];
        ensure!(ip["gateway"] == "10.99.0.1" && ip["address"].to_string().ends_with("/24\""), "{result}");
        assert_eq!(result["routes"], json!([{"dst": "0.0.0.0/0", "gw": "10.99.0.1"}]));
        assert_eq!(result["dns"]["nameservers"], json!(["10.99.0.53", "10.99.1.53"]));
        assert_eq!(result["dns"]["domain"], "example.com");
        assert_eq!(result["dns"]["search"], json!(["eng.example.com", "example.com"]));
        let leased = lab.leased().join("\n");
        ensure!(leased.contains(&address(&result, 4)?), "the server has leased {leased}");
        // Type 0, then `c0/net/eth0`.
        ensure!(leased.contains("00:63:30:2f:6e:65:74:2f:65:74:68:30"), "the client ID is another: {leased}");
        Ok(())
    });
}

#[test]
fn classless_routes_stand_for_all_others_and_have_the_metric() {
    run(|world| {
        let lab = Lab::new(world)?;
        let routes = "--dhcp-option=121,192.168.5.0/24,10.99.0.3,192.168.6.0/24,0.0.0.0";
        let (_server, _daemon) =
            (lab.dnsmasq(&[routes, "--dhcp-option=33,172.16.0.0,10.99.0.4"])?, lab.daemon(&[])?);
        let result = lab.chain(json!({"priority": 50}))?.add(&lab.host, &lab.container("c0")?)?;
        let expected = json!([
            {"dst": "192.168.5.0/24", "gw": "10.99.0.3", "priority": 50},
            {"dst": "192.168.6.0/24", "gw": "0.0.0.0", "priority": 50, "scope": 253},
        ]);
        assert_eq!(result["routes"], expected);
        Ok(())
    });
}

#[test]
fn the_server_learns_the_names_that_the_runtime_gives() {
    run(|world| {
        let lab = Lab::new(world)?;
        let (_server, _daemon) = (lab.dnsmasq(&[])?, lab.daemon(&[])?);
        let provide = json!({"provide": [{"option": "host-name", "fromArg": "K8S_POD_NAME"}]});
        let container = lab.container("c0")?.args("IgnoreUnknown=1;K8S_POD_NAME=web-0");
        lab.chain(provide)?.add(&lab.host, &container)?;
        ensure!(lab.leased().iter().any(|line| line.contains(" web-0 ")), "{:?}", lab.leased());
        Ok(())
    });
}

#[test]
fn a_lease_is_renewed_in_time_and_the_container_left_alone() {
    run(|world| {
        let lab = Lab::new(world)?;
        let (server, daemon) = (lab.dnsmasq(HASTY)?, lab.daemon(&[])?);
        let (chain, container) = (lab.chain(json!({}))?, lab.container("c0")?);
        let cidr = lab.attach(&chain, &container)?;
        let seen =
            || container.container().ip_json("-4 addr show eth0").map(|links| links[0]["addr_info"].clone());
        let before = seen()?;
        ensure!(eventually(SOON, || acknowledged(&server) >= 3), "{}{}", server.log(), daemon.log());
        assert_eq!(server.log().matches("DHCPDISCOVER(").count(), 1, "{}", server.log());
        assert!(before.to_string().contains(cidr.split('/').next().unwrap_or_default()), "{before}");
        assert_eq!(seen()?, before);
        chain.check(&lab.host, &container)
    });
}

#[test]
fn leases_outlive_the_daemon_and_vanished_containers_do_not() {
    run(|world| {
        let lab = Lab::new(world)?;
        let (server, first) = (lab.dnsmasq(HASTY)?, lab.daemon(&[])?);
        let (chain, container, doomed) = (lab.chain(json!({}))?, lab.container("c0")?, lab.container("c1")?);
        let cidr = lab.attach(&chain, &container)?;
        chain.add(&lab.host, &doomed)?;
        drop(first);
        doomed.container().remove()?;
        let granted = acknowledged(&server);
        let daemon = lab.daemon(&[])?;
        ensure!(
            eventually(SOON, || acknowledged(&server) >= granted + 3),
            "{}{}",
            server.log(),
            daemon.log()
        );
        ensure!(!lab.records()?.contains("/c1/"), "{}", lab.records()?);
        ensure!(has_address(&container, &cidr)?, "the address went away");
        chain.check(&lab.host, &container)?;
        chain.del(&lab.host, &container)?;
        ensure!(
            eventually(SOON, || lab.leased().iter().all(|line| !line.contains(" c0"))),
            "{:?}",
            lab.leased()
        );
        Ok(())
    });
}

#[test]
fn del_gives_the_address_back_and_may_be_repeated() {
    run(|world| {
        let lab = Lab::new(world)?;
        let (_server, daemon) = (lab.dnsmasq(&[])?, lab.daemon(&[])?);
        let (chain, container) = (lab.chain(json!({}))?, lab.container("c0")?);
        lab.attach(&chain, &container)?;
        ensure!(lab.leased().len() == 1 && lab.records()?.contains("/net/c0/eth0"), "{:?}", lab.leased());
        chain.del(&lab.host, &container)?;
        ensure!(eventually(SOON, || lab.leased().is_empty()), "{:?}{}", lab.leased(), daemon.log());
        assert_eq!(lab.records()?, "");
        chain.del(&lab.host, &container)?;
        chain.del(&lab.host, &lab.container("never")?)
    });
}

#[test]
fn a_second_add_gives_the_same_address_and_a_new_namespace_gets_a_new_lease() {
    run(|world| {
        let lab = Lab::new(world)?;
        let (server, _daemon) = (lab.dnsmasq(&[])?, lab.daemon(&[])?);
        let (chain, container) = (lab.chain(json!({}))?, lab.container("c0")?);
        let first = chain.add(&lab.host, &container)?;
        assert_eq!(chain.add(&lab.host, &container)?["ips"], first["ips"]);
        assert_eq!(acknowledged(&server), 1);
        let other = lab.container("c1")?;
        let moved = container.netns(other.container().path());
        chain.add(&lab.host, &moved)?;
        ensure!(acknowledged(&server) == 2, "{}", server.log());
        Ok(())
    });
}

#[test]
fn a_second_add_that_is_refused_leaves_the_lease_to_who_has_it() {
    run(|world| {
        let lab = Lab::new(world)?;
        let (_server, daemon) = (lab.dnsmasq(&[])?, lab.daemon(&[])?);
        let (chain, container) = (lab.chain(json!({}))?, lab.container("c0")?);
        lab.attach(&chain, &container)?;
        let (leased, bare) = (lab.leased(), world.container("bare")?);
        let moved = container.clone().netns(bare.path());
        let plugin = json!({"type": "dhcp", "ipam": {"type": "dhcp", "daemonSocketPath": lab.socket}});
        let config = chain.config(&lab.host, &object(&plugin), Some(&moved), None);
        let refused = command(&lab.host, &[], "ADD", Some(&moved), &config).output()?;
        ensure!(refused.stdout.contains("\"code\":134"), "{}", refused.stdout);
        ensure!(!daemon.log().contains("released"), "{}", daemon.log());
        assert_eq!(lab.leased(), leased);
        chain.check(&lab.host, &container)
    });
}

#[test]
fn gc_gives_back_what_no_valid_attachment_has() {
    run(|world| {
        let lab = Lab::new(world)?;
        let (_server, _daemon) = (lab.dnsmasq(&[])?, lab.daemon(&[])?);
        let (chain, kept, stale) = (lab.chain(json!({}))?, lab.container("c0")?, lab.container("c1")?);
        let cidr = lab.attach(&chain, &kept)?;
        lab.attach(&chain, &stale)?;
        chain.gc(&lab.host, &[&kept])?;
        ensure!(eventually(SOON, || lab.leased().len() == 1), "{:?}", lab.leased());
        let address = cidr.split('/').next().unwrap_or_default();
        ensure!(lab.leased()[0].contains(address), "{:?}", lab.leased());
        chain.check(&lab.host, &kept)?;
        let plugin = json!({"type": "dhcp", "ipam": {"type": "dhcp", "daemonSocketPath": lab.socket}});
        let config = chain.config(&lab.host, &object(&plugin), Some(&stale), None);
        let check = command(&lab.host, &[], "CHECK", Some(&stale), &config).output()?;
        ensure!(check.stdout.contains("\"code\":132"), "{}", check.stdout);
        Ok(())
    });
}

#[test]
fn a_lease_that_the_server_takes_back_is_taken_off_the_interface() {
    run(|world| {
        let lab = Lab::new(world)?;
        let (server, daemon) = (lab.dnsmasq(HASTY)?, lab.daemon(&[])?);
        let (chain, container) = (lab.chain(json!({}))?, lab.container("c0")?);
        let cidr = lab.attach(&chain, &container)?;
        drop(server);
        fs::remove_file(lab.leases_file())?;
        let _other = lab.dnsmasq_with("--dhcp-range=10.99.0.200,10.99.0.210,255.255.255.0,2m", HASTY)?;
        let is_gone = || has_address(&container, &cidr).is_ok_and(|has| !has);
        ensure!(eventually(SOON, is_gone), "{}", daemon.log());
        let error = refusal(chain.check(&lab.host, &container));
        ensure!(error.code == 132 && error.msg.contains("create it again"), "{error}");
        chain.del(&lab.host, &container)
    });
}

#[test]
fn without_a_daemon_every_verb_says_how_to_start_one() {
    run(|world| {
        let lab = Lab::new(world)?;
        let (chain, container) = (lab.chain(json!({}))?, lab.container("c0")?);
        let add = refusal(chain.add(&lab.host, &container));
        ensure!(add.code == 130 && add.msg.contains("zeugma dhcp"), "{add}");
        let status = refusal(chain.status(&lab.host));
        ensure!(status.code == 50 && status.msg.contains("zeugma dhcp"), "{status}");
        chain.del(&lab.host, &container)?;
        let (_server, daemon) = (lab.dnsmasq(&[])?, lab.daemon(&[])?);
        chain.status(&lab.host)?;
        chain.add(&lab.host, &container)?;
        drop(daemon);
        // There is a lease to give back: the runtime has to ask again.
        assert_eq!(refusal(chain.del(&lab.host, &container)).code, 130);
        let _daemon = lab.daemon(&[])?;
        chain.del(&lab.host, &container)
    });
}

#[test]
fn a_silent_network_is_given_up_in_time() {
    run(|world| {
        let lab = Lab::new(world)?;
        let _daemon = lab.daemon(&["--timeout", "500ms", "--resendtimeout", "2s"])?;
        let start = std::time::Instant::now();
        let error = refusal(lab.chain(json!({}))?.add(&lab.host, &lab.container("c0")?));
        ensure!(error.code == 11 && error.msg.contains("no DHCP server"), "{error}");
        ensure!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
        assert_eq!(lab.records()?, "");
        Ok(())
    });
}

#[test]
fn an_add_that_is_killed_is_forgotten() {
    run(|world| {
        let lab = Lab::new(world)?;
        let daemon = lab.daemon(&[])?;
        let (chain, container) = (lab.chain(json!({}))?, lab.container("c0")?);
        let plugin = json!({"type": "dhcp", "ipam": {"type": "dhcp", "daemonSocketPath": lab.socket}});
        let config = chain.config(&lab.host, &object(&plugin), Some(&container), None);
        let timeout = ["timeout", "0.5"].map(str::to_owned);
        let killed = command(&lab.host, &timeout, "ADD", Some(&container), &config).output()?;
        ensure!(killed.status.code() == Some(124), "{killed:?}");
        let _server = lab.dnsmasq(&[])?;
        chain.add(&lab.host, &container).with_context(|| daemon.log()).map(drop)
    });
}

#[test]
fn a_container_without_the_interface_is_told_apart_from_a_silent_network() {
    run(|world| {
        let lab = Lab::new(world)?;
        let _daemon = lab.daemon(&[])?;
        let chain = lab.chain(json!({}))?;
        let bare = world.container("bare")?.attachment("bare", "eth0");
        let error = refusal(chain.add(&lab.host, &bare));
        ensure!(error.code == 134 && error.msg.contains("no interface eth0"), "{error}");
        let nowhere = refusal(chain.add(&lab.host, &bare.netns("/run/netns/nowhere")));
        ensure!(nowhere.code == 134 && nowhere.msg.contains("/run/netns/nowhere"), "{nowhere}");
        Ok(())
    });
}

/// Listens as a service manager does and becomes the daemon with the socket as descriptor 3.
const ACTIVATOR: &str = r#"
use Socket; use POSIX; $^F = 9; my ($path, @daemon) = @ARGV;
socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die; bind($s, sockaddr_un($path)) or die "$!"; listen($s, 9) or die;
POSIX::dup2(fileno($s), 3); $ENV{LISTEN_FDS} = 1; $ENV{LISTEN_PID} = $$; exec @daemon;
"#;

#[test]
fn a_service_manager_may_hand_over_the_socket() {
    run(|world| {
        let lab = Lab::new(world)?;
        let zeugma = bin_dir().join("zeugma");
        let perl = lab.host.command("perl").args(["-e", ACTIVATOR]).arg(&lab.socket).arg(zeugma);
        let daemon = perl.args(["dhcp", "--socketpath"]).arg(&lab.socket).spawn()?;
        ensure!(eventually(SOON, || daemon.log().contains("listening")), "{}", daemon.log());
        let _server = lab.dnsmasq(&[])?;
        lab.chain(json!({}))?.add(&lab.host, &lab.container("c0")?)?;
        lab.host.run(["kill", &daemon.pid().to_string()])?;
        ensure!(eventually(SOON, || !daemon.is_running()), "it outlives SIGTERM");
        ensure!(lab.socket.exists(), "the socket is the service manager's");
        Ok(())
    });
}

#[test]
fn the_reference_s_unit_starts_our_daemon() {
    run(|world| {
        let lab = Lab::new(world)?;
        let dhcp = lab.host.command(bin_dir().join("dhcp")).args(["daemon", "-broadcast", "-socketpath"]);
        let daemon = dhcp.arg(&lab.socket).spawn()?;
        ensure!(eventually(SOON, || daemon.log().contains("zeugma dhcp: listening")), "{}", daemon.log());
        Ok(())
    });
}

/// A plugin that makes the interface which the lease comes over.
fn ensure_asks_by_its_interface(plugin: fn() -> Value) {
    run(|world| {
        let lab = Lab::new(world)?;
        let (_server, _daemon) = (lab.dnsmasq(&[])?, lab.daemon(&[])?);
        let ipam = json!({"ipam": {"type": "dhcp", "daemonSocketPath": lab.socket}});
        let chain = network("net", &[with(plugin(), ipam)])?;
        let container = world.container("c0")?.attachment("c0", "eth0");
        let result = chain.add(&lab.host, &container)?;
        let cidr = result["ips"][0]["address"].as_str().context("an address")?;
        ensure!(has_address(&container, cidr)?, "eth0 has not {cidr}");
        container.container().ping("10.99.0.1")?;
        chain.check(&lab.host, &container)?;
        chain.del(&lab.host, &container)?;
        ensure!(eventually(SOON, || lab.leased().is_empty()), "DEL: {:?}", lab.leased());
        chain.add(&lab.host, &container)?;
        chain.gc(&lab.host, &[])?;
        ensure!(eventually(SOON, || lab.leased().is_empty()), "GC: {:?}", lab.leased());
        Ok(())
    });
}

#[test]
fn bridge_asks_by_the_interface_that_it_made() {
    ensure_asks_by_its_interface(|| json!({"type": "bridge", "bridge": "br0"}));
}

#[test]
fn macvlan_asks_by_the_interface_that_it_made() {
    ensure_asks_by_its_interface(|| json!({"type": "macvlan", "master": "br0"}));
}

#[test]
fn a_daemon_takes_the_place_of_a_killed_one_but_not_of_a_living_one() {
    run(|world| {
        let lab = Lab::new(world)?;
        let pidfile = lab.host.run_dir().join("dhcp.pid").display().to_string();
        drop(lab.daemon(&[])?);
        let daemon = lab.daemon(&["--pidfile", &pidfile])?;
        assert_eq!(fs::read_to_string(&pidfile)?, daemon.pid().to_string());
        let second = lab.host.command(bin_dir().join("zeugma")).args(["dhcp", "--socketpath"]);
        let second = second.arg(&lab.socket).args(["--pidfile", &pidfile]).output()?;
        ensure!(!second.status.success() && second.stderr.contains("another daemon"), "{}", second.stderr);
        assert_eq!(fs::read_to_string(&pidfile)?, daemon.pid().to_string());
        lab.host.run(["kill", &daemon.pid().to_string()])?;
        ensure!(eventually(SOON, || !daemon.is_running()), "it outlives SIGTERM");
        ensure!(!lab.socket.exists() && fs::metadata(&pidfile).is_err(), "socket or pidfile stay behind");
        Ok(())
    });
}
