//! The plugin `overlay`: containers across hosts, who reaches whom, what never leaves, and what it leaves behind. States,
//! tunnels and routes are made by hand: neither agent nor catalogue takes part.

use std::fs;

use anyhow::{Result, ensure};
use netns_fixtures::{Attachment, run};
use serde_json::json;
use zeugma_tests::bin_dir;
use zeugma_tests::overlays::{Counter, Overlay, Pair, chain, tell, untell};
use zeugma_tests::stage::{Stage, address, firewall, network, portmap, published, refusal, with};

/// Who the server at `address` says that the container is, port 7000; an error's text where nobody answers.
fn asked(container: &Attachment, address: &str) -> String {
    let place = if address.contains(':') { format!("[{address}]:7000") } else { format!("{address}:7000") };
    container.container().ask_tcp(&place).unwrap_or_else(|error| format!("{error:?}"))
}

fn serve(container: &Attachment) -> Result<netns_fixtures::Server> {
    container.container().tcp_echo("[::]:7000", "served")
}

#[test]
fn containers_on_two_hosts_see_one_another_s_own_addresses() {
    run(|world| {
        let (pair, front) = (Pair::new(world)?, Overlay::new("front", 90));
        pair.join(&front)?;
        let (near, mine) = pair.container(&front, 1, "near")?;
        let (far, theirs) = pair.container(&front, 2, "far")?;
        let _server = serve(&far)?;
        for family in [0, 1] {
            assert_eq!(asked(&near, &theirs[family]), format!("served {}", mine[family]));
        }
        let link = &near.container().ip_json("link show eth0")?[0];
        assert_eq!(link["mtu"], 1450);
        // The first two addresses of a part are the host's.
        assert_eq!(mine, ["10.90.1.2", "fd00:90:0:1::2"]);
        Ok(())
    });
}

#[test]
fn the_outside_sees_the_host_s_address() {
    run(|world| {
        let (pair, front) = (Pair::new(world)?, Overlay::new("front", 90));
        pair.join(&front)?;
        let (near, _) = pair.container(&front, 1, "near")?;
        let _server = pair.hosts[1].tcp_echo("[::]:7000", "outside")?;
        assert_eq!(asked(&near, "192.0.2.2"), "outside 192.0.2.1");
        assert_eq!(asked(&near, "2001:db8:1::2"), "outside 2001:db8:1::1");
        Ok(())
    });
}

#[test]
fn overlays_are_apart_unless_one_is_reachable_from_the_other() {
    run(|world| {
        let pair = Pair::new(world)?;
        let (front, shut) = (Overlay::new("front", 90), Overlay::new("shut", 91));
        let open = Overlay::new("open", 92).with(json!({"reachable_from": front.subnets()}));
        [&front, &shut, &open].into_iter().try_for_each(|overlay| pair.join(overlay))?;
        let (asker, mine) = pair.container(&front, 1, "asker")?;
        let _asker = serve(&asker)?;
        pair.container(&front, 2, "other")?;
        for host in [1, 2] {
            let (hidden, there) = pair.container(&shut, host, &format!("hidden{host}"))?;
            let (let_in, here) = pair.container(&open, host, &format!("let-in{host}"))?;
            let _servers = (serve(&hidden)?, serve(&let_in)?);
            for family in [0, 1] {
                for (from, to, expected) in
                    [(&asker, &there, false), (&asker, &here, true), (&let_in, &mine, false)]
                {
                    let told = asked(from, &to[family]);
                    assert_eq!(told.contains("served"), expected, "{} to {}: {told}", from.id(), to[family]);
                }
            }
        }
        Ok(())
    });
}

#[test]
fn a_policy_of_the_bridge_and_published_ports_hold_in_an_overlay() {
    run(|world| {
        let (pair, front) = (Pair::new(world)?, Overlay::new("front", 90));
        pair.join(&front)?;
        let leases = pair.hosts[0].run_dir().join("networks");
        let plugins = [json!({"type": "overlay", "dataDir": leases}), portmap(), firewall("same-bridge")];
        let host = &pair.hosts[0];
        let web = world.container("web")?.attachment("web", "eth0").with(published(&["8080:7000"]));
        let inside = address(&network("front", &plugins)?.add(host, &web)?, 4)?;
        let (far, _) = pair.container(&front, 2, "far")?;
        let _server = serve(&web)?;
        assert!(asked(&far, &inside).contains("served"));
        assert_eq!(pair.hosts[1].ask_tcp("192.0.2.1:8080")?, "served 192.0.2.2");
        assert!(pair.hosts[1].ask_tcp(&format!("{inside}:7000")).is_ok(), "a host is a member by its tunnel");
        Ok(())
    });
}

/// Whether packets of a container and of the host to the other host's part arrive there by the wire, when the tunnel is
/// gone and somebody's route leads past it.
fn ensure_past_the_tunnel(backend: &str, expected: bool) {
    run(|world| {
        let (pair, front) = (Pair::new(world)?, Overlay::new("front", 90).with(json!({"backend": backend})));
        pair.join(&front)?;
        let (near, _) = pair.container(&front, 1, "near")?;
        let [host, other] = &pair.hosts;
        host.ip(&format!("link del {}", front.tunnel()))?;
        host.ip("route add 10.90.2.0/24 via 192.0.2.2")?;
        host.ip("route add fd00:90:0:2::/64 via 2001:db8:1::2")?;
        for (words, address) in
            [("ip daddr 10.90.0.0/16", "10.90.2.9"), ("ip6 daddr fd00:90::/56", "fd00:90:0:2::9")]
        {
            let wire = Counter::new(other, "prerouting", &format!("iifname \"eth0\" {words}"))?;
            for sender in [near.container(), host] {
                wire.ensure_by_pings(sender, address, expected)?;
            }
        }
        Ok(())
    });
}

#[test]
fn an_encrypted_network_never_leaves_but_by_its_tunnel() {
    ensure_past_the_tunnel("wireguard", false);
}

#[test]
fn what_is_not_encrypted_goes_where_routes_lead() {
    ensure_past_the_tunnel("host-gw", true);
}

/// Whether a stranger on the wire gets a packet to a container by the address of another host's container.
fn ensure_claimed(backend: &str, expected: bool) {
    run(|world| {
        let (pair, front) = (Pair::new(world)?, Overlay::new("front", 90).with(json!({"backend": backend})));
        tell(&pair.hosts[0], &front, 1)?;
        let (near, mine) = pair.container(&front, 1, "near")?;
        let stranger = &pair.hosts[1];
        stranger.ip("address add 10.90.2.9/32 dev lo")?;
        stranger.ip("address add fd00:90:0:2::9/128 dev lo nodad")?;
        stranger.ip("route add 10.90.1.0/24 via 192.0.2.1 src 10.90.2.9")?;
        stranger.ip("route add fd00:90:0:1::/64 via 2001:db8:1::1 src fd00:90:0:2::9")?;
        for (words, address) in [("ip saddr 10.90.2.9", &mine[0]), ("ip6 saddr fd00:90:0:2::9", &mine[1])] {
            let got = Counter::new(near.container(), "prerouting", words)?;
            got.ensure_by_pings(stranger, address, expected)?;
        }
        Ok(())
    });
}

#[test]
fn nobody_else_comes_with_addresses_of_a_tunnelled_network() {
    ensure_claimed("vxlan", false);
    ensure_claimed("wireguard", false);
}

#[test]
fn by_host_gw_packets_come_by_the_wire() {
    ensure_claimed("host-gw", true);
}

#[test]
fn segments_fit_into_the_tunnel() {
    run(|world| {
        let (pair, front) = (Pair::new(world)?, Overlay::new("front", 90).with(json!({"mtu": 1500})));
        pair.join(&front)?;
        let (near, _) = pair.container(&front, 1, "near")?;
        let (far, theirs) = pair.container(&front, 2, "far")?;
        let _server = serve(&far)?;
        // Of a tunnel of 1450 bytes the headers take 40, and 60 with IPv6.
        let large =
            Counter::new(far.container(), "prerouting", "tcp flags syn tcp option maxseg size > 1410")?;
        let fitting =
            Counter::new(far.container(), "prerouting", "tcp flags syn tcp option maxseg size 1390-1410")?;
        let answers =
            Counter::new(near.container(), "prerouting", "tcp flags syn tcp option maxseg size > 1410")?;
        for family in [0, 1] {
            assert!(asked(&near, &theirs[family]).contains("served"));
        }
        large.ensure(false)?;
        answers.ensure(false)?;
        fitting.ensure(true)?;
        Ok(())
    });
}

#[test]
fn without_a_state_nothing_begins_and_everything_ends() {
    run(|world| {
        let (stage, front) = (Stage::new(world)?, Overlay::new("front", 90));
        let (host, container) = (&stage.host, stage.container()?);
        let chain = chain(host, &front, json!({}))?;
        let before = stage.residue()?;
        let refused = refusal(chain.add(host, &container));
        assert_eq!(refused.code, 11);
        assert!(refused.msg.contains("overlays/front.json") && refused.msg.contains("agent"), "{refused}");
        assert_eq!(refusal(chain.status(host)).code, 50);
        host.ip("link add vx-front type dummy").or_else(|_| host.ip("link add vx-front type bridge"))?;
        host.ip("link set vx-front up")?;
        tell(host, &front, 1)?;
        chain.status(host)?;
        chain.add(host, &container)?;
        chain.check(host, &container)?;
        host.ip("link set vx-front down")?;
        assert!(refusal(chain.check(host, &container)).msg.contains("vx-front is down"));
        assert_eq!(refusal(chain.status(host)).code, 50);
        host.ip("link del vx-front")?;
        untell(host, &front)?;
        chain.del(host, &container)?;
        chain.gc(host, &[])?;
        let lasting = stage.residue()?.without(|line| line.contains("zeugma") || line.contains("forward"));
        let diff = before.without(|line| line.contains("zeugma") || line.contains("forward")).diff(&lasting);
        ensure!(diff.is_empty(), "{diff}");
        let table = host.nft_table("inet zeugma")?;
        ensure!(!table.contains("10.90.") && !table.contains("front"), "{table}");
        Ok(())
    });
}

/// Of a table of version 1: a set that is in use, the administrator's chain, and rules that there are more of now.
const BEFORE: &str = r#"table inet zeugma {
 comment "zeugma ruleset 1"
 set masquerade_ip {
  type ipv4_addr; flags interval
  elements = { 10.88.0.0/16 comment "old" }
 }
 chain admin {
  counter
 }
 chain forward {
  type filter hook forward priority 0; policy accept;
  jump admin
  ct state established,related accept
 }
}
"#;

#[test]
fn a_table_of_the_version_before_is_completed() {
    run(|world| {
        let (pair, front) = (Pair::new(world)?, Overlay::new("front", 90));
        pair.join(&front)?;
        let host = &pair.hosts[0];
        host.nft(BEFORE)?;
        pair.container(&front, 1, "near")?;
        let table = host.run(["nft", "list", "table", "inet", "zeugma"])?.stdout;
        for words in ["10.88.0.0/16 comment \"old\"", "set sealed_ip", "jump overlay", "counter"] {
            ensure!(table.contains(words), "{words:?} is not in\n{table}");
        }
        assert_eq!(table.matches("jump admin").count(), 1, "{table}");
        Ok(())
    });
}

#[test]
fn a_dry_run_says_what_the_state_becomes() {
    run(|world| {
        let (stage, front) =
            (Stage::new(world)?, Overlay::new("front", 90).with(json!({"backend": "wireguard"})));
        tell(&stage.host, &front, 1)?;
        let before = stage.residue()?;
        let config =
            json!({"cniVersion": "1.1.0", "name": "front", "type": "overlay", "dataDir": world.dir()});
        let command = stage.host.command(bin_dir().join("zeugma-cni")).args(["--dry-run", "overlay"]);
        let command =
            command.env("CNI_COMMAND", "ADD").env("CNI_PATH", bin_dir()).env("CNI_CONTAINERID", "web");
        let command = command.env("CNI_IFNAME", "eth0").env("CNI_NETNS", "/run/netns/none");
        let plan = command.stdin(config.to_string()).run()?.stdout;
        for words in
            ["ip link add", "br-front", "10.90.1.1/24", "10.90.1.2/24", "mtu 1450", "sealed_ip", "ways_ip6"]
        {
            ensure!(plan.contains(words), "{words:?} is not in\n{plan}");
        }
        stage.ensure_unchanged(&before)
    });
}

#[test]
fn what_keeps_an_overlay_apart_stays_while_the_overlay_does() {
    run(|world| {
        let (pair, front) = (Pair::new(world)?, Overlay::new("front", 90));
        pair.join(&front)?;
        let host = &pair.hosts[0];
        let chain = chain(host, &front, json!({}))?;
        let container = world.container("one-shot")?.attachment("one-shot", "eth0");
        chain.add(host, &container)?;
        let with_it = host.nft_table("inet zeugma")?;
        chain.del(host, &container)?;
        chain.gc(host, &[])?;
        assert_eq!(host.nft_table("inet zeugma")?, with_it);
        // Nor while nobody can read what the overlay is.
        let state = host.state_dir().join("overlays/front.json");
        let text = fs::read(&state)?;
        fs::write(&state, "{")?;
        chain.gc(host, &[])?;
        assert_eq!(host.nft_table("inet zeugma")?, with_it);
        fs::write(&state, text)?;
        // Of a host whose state went first, the records tell what is needed.
        chain.add(host, &container)?;
        untell(host, &front)?;
        chain.gc(host, &[&container])?;
        assert_eq!(host.nft_table("inet zeugma")?, with_it);
        Ok(())
    });
}

#[test]
fn a_container_is_found_by_a_list_of_another_name() {
    run(|world| {
        let (pair, front) = (Pair::new(world)?, Overlay::new("front", 90));
        pair.join(&front)?;
        let host = &pair.hosts[0];
        let leases = host.run_dir().join("networks");
        let plugin = json!({"type": "overlay", "network": "front", "dataDir": leases});
        let chain = network("ten-front", &[with(plugin, json!({}))])?;
        let container = world.container("c")?.attachment("c", "eth0");
        let result = chain.add(host, &container)?;
        assert_eq!(address(&result, 4)?, "10.90.1.2");
        assert_eq!(result["interfaces"][0]["name"], "br-front");
        chain.check(host, &container)?;
        chain.del(host, &container)?;
        ensure!(!leases.join("ten-front/10.90.1.2").exists(), "the lease stays");
        Ok(())
    });
}
