//! Published ports: who may have one, where it leads, and that nothing of it stays.

use std::fs;

use anyhow::{Result, ensure};
use netns_fixtures::{Attachment, Chain, run};
use serde_json::{Value, json};
use zeugma_tests::stage::{HOST, Stage, address, bridge, network, portmap, published, refusal, with};

fn chain() -> Result<Chain> {
    network("net", &[bridge(0), portmap()])
}

fn chain_with(keys: Value) -> Result<Chain> {
    network("net", &[bridge(0), with(portmap(), keys)])
}

/// The claims and elements that name a container.
fn traces(stage: &Stage<'_>, of: &Attachment) -> Result<Vec<String>> {
    let mut traces: Vec<String> = fs::read_dir(stage.host.run_dir().join("ports"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|file| fs::read_to_string(file.path()).ok())
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    traces.extend(stage.host.nft_ruleset()?.lines().map(|line| line.trim().to_owned()));
    traces.retain(|line| {
        line.contains(&format!("/{}/", of.id())) || line.contains(&format!("\"{}\"", of.id()))
    });
    Ok(traces)
}

fn ensure_conflict(first: &str, second: &str) {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain()?);
        let (one, two) = (stage.publishing(&[first])?, stage.publishing(&[second])?);
        chain.add(&stage.host, &one)?;
        let before = stage.residue()?;
        let error = refusal(chain.add(&stage.host, &two));
        assert_eq!((error.plugin.as_str(), error.code), ("portmap", 101), "{error}");
        assert!(error.msg.contains(&format!("/{}/", one.id())), "{error}");
        assert_eq!(traces(&stage, &two)?, [""; 0]);
        chain.del(&stage.host, &two)?;
        stage.ensure_unchanged(&before)
    });
}

#[test]
fn a_port_on_any_address_excludes_the_same_on_one() {
    ensure_conflict("8080:80", "192.0.2.1:8080:80");
    ensure_conflict("[::]:8080:80", "[2001:db8:1::1]:8080:80");
}

#[test]
fn a_port_on_one_address_excludes_the_same_on_any() {
    ensure_conflict("192.0.2.1:8080:80", "0.0.0.0:8080:80");
    ensure_conflict("[2001:db8:1::1]:8080:80", "8080:80");
}

#[test]
fn the_same_port_on_the_same_address_is_refused() {
    ensure_conflict("8080:80", "8080:81");
    ensure_conflict("192.0.2.1:8080:80/udp", "192.0.2.1:8080:80/udp");
}

#[test]
fn families_protocols_and_addresses_have_ports_of_their_own() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain()?);
        stage.host.ip("addr add 192.0.2.9/24 dev eth0")?;
        let ports = [
            "192.0.2.1:8080:80",
            "192.0.2.9:8080:80",
            "[::]:8080:80",
            "0.0.0.0:8080:80/udp",
            "[::]:8080:80/udp",
        ];
        for port in ports {
            chain.add(&stage.host, &stage.publishing(&[port])?)?;
        }
        Ok(())
    });
}

#[test]
fn a_mapping_named_twice_is_one() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain()?);
        let web = stage.publishing(&["8080:80", "8080:80"])?;
        chain.add(&stage.host, &web)?;
        let _server = web.container().tcp_echo("[::]:80", "web")?;
        assert_eq!(stage.client.ask_tcp("192.0.2.1:8080")?, "web 192.0.2.2");
        chain.del(&stage.host, &web)
    });
}

#[test]
fn a_program_that_listens_keeps_its_port() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain()?);
        let _first = chain.add(&stage.host, &stage.container()?)?;
        let web = stage.publishing(&["8079:79", "8080:80"])?;
        let _program = stage.host.tcp_echo("127.0.0.1:8080", "program")?;
        let error = refusal(chain.add(&stage.host, &web));
        let own_name = fs::read_to_string("/proc/self/comm")?;
        assert_eq!((error.plugin.as_str(), error.code), ("portmap", 101), "{error}");
        assert!(error.msg.contains(own_name.trim()), "{error}");
        assert_eq!(traces(&stage, &web)?, [""; 0]);
        let other_address = stage.publishing(&["192.0.2.1:8080:80"])?;
        chain.add(&stage.host, &other_address)?;
        Ok(())
    });
}

#[test]
fn a_program_that_listens_on_udp_keeps_its_port() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain()?);
        let _program = stage.host.udp_echo("0.0.0.0:8080", "program")?;
        let error = refusal(chain.add(&stage.host, &stage.publishing(&["8080:80/udp"])?));
        assert_eq!(error.code, 101, "{error}");
        chain.add(&stage.host, &stage.publishing(&["8080:80/tcp"])?)?;
        Ok(())
    });
}

#[test]
fn the_port_of_a_dead_container_is_free() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain()?);
        let (dead, heir) = (stage.publishing(&["8080:80"])?, stage.publishing(&["8080:80"])?);
        chain.add(&stage.host, &dead)?;
        dead.container().remove()?;
        chain.add(&stage.host, &heir)?;
        let _server = heir.container().tcp_echo("[::]:80", "heir")?;
        assert_eq!(stage.client.ask_tcp("192.0.2.1:8080")?, "heir 192.0.2.2");
        chain.del(&stage.host, &dead)?;
        assert_eq!(stage.client.ask_tcp("192.0.2.1:8080")?, "heir 192.0.2.2");
        assert_eq!(stage.client.ask_tcp("[2001:db8:1::1]:8080")?, "heir 2001:db8:1::2");
        chain.del(&stage.host, &heir)?;
        chain.add(&stage.host, &stage.publishing(&["8080:80"])?)?;
        Ok(())
    });
}

#[test]
fn a_container_s_second_network_inherits_its_port() {
    run(|world| {
        let (stage, first) = (Stage::new(world)?, chain()?);
        let second = network("other", &[bridge(1), portmap()])?;
        let web = stage.container()?;
        let eth1 = web.container().attachment(web.id(), "eth1").with(published(&["8080:80"]));
        let eth0 = web.with(published(&["8080:80"]));
        first.add(&stage.host, &eth0)?;
        let there = address(&second.add(&stage.host, &eth1)?, 4)?;
        let server = eth0.container().tcp_echo("10.88.0.2:80", "eth0")?;
        assert_eq!(stage.client.ask_tcp("192.0.2.1:8080")?, "eth0 192.0.2.2");
        drop(server);
        first.del(&stage.host, &eth0)?;
        eth0.container().ip("route replace default via 10.88.1.1")?;
        let _server = eth0.container().tcp_echo(&format!("{there}:80"), "eth1")?;
        assert_eq!(stage.client.ask_tcp("192.0.2.1:8080")?, "eth1 192.0.2.2");
        second.del(&stage.host, &eth1)?;
        assert!(stage.client.ask_tcp("192.0.2.1:8080").is_err());
        assert_eq!(traces(&stage, &eth0)?, [""; 0]);
        Ok(())
    });
}

#[test]
fn an_address_restricts_a_port_to_itself() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain()?);
        stage.host.ip("addr add 192.0.2.9/24 dev eth0")?;
        stage.host.ip("addr add 2001:db8:1::9/64 dev eth0 nodad")?;
        let web = stage.publishing(&["192.0.2.9:8080:80", "[2001:db8:1::9]:8080:80"])?;
        chain.add(&stage.host, &web)?;
        let _server = web.container().tcp_echo("[::]:80", "web")?;
        assert_eq!(stage.client.ask_tcp("192.0.2.9:8080")?, "web 192.0.2.2");
        assert_eq!(stage.client.ask_tcp("[2001:db8:1::9]:8080")?, "web 2001:db8:1::2");
        assert!(stage.client.ask_tcp("192.0.2.1:8080").is_err());
        assert!(stage.client.ask_tcp("[2001:db8:1::1]:8080").is_err());
        Ok(())
    });
}

#[test]
fn a_port_without_address_answers_in_both_families_until_del() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain()?);
        let web = stage.publishing(&["8080:80", "8080:80/udp"])?;
        chain.add(&stage.host, &web)?;
        let _servers =
            (web.container().tcp_echo("[::]:80", "web")?, web.container().udp_echo("0.0.0.0:80", "web")?);
        let ports = HOST
            .map(|host| if host.contains(':') { format!("[{host}]:8080") } else { format!("{host}:8080") });
        for port in &ports {
            assert!(stage.client.ask_tcp(port)?.starts_with("web "), "{port}");
            assert!(stage.host.ask_tcp(port)?.starts_with("web "), "{port} from the host itself");
        }
        assert_eq!(stage.client.ask_udp(&ports[0])?, "web 192.0.2.2");
        chain.del(&stage.host, &web)?;
        for port in &ports {
            ensure!(stage.client.ask_tcp(port).is_err(), "{port} answers after DEL");
        }
        Ok(())
    });
}

#[test]
fn a_udp_flow_older_than_the_port_is_redirected() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain()?);
        chain.add(&stage.host, &stage.container()?)?;
        let program = stage.host.udp_echo("0.0.0.0:8080", "program")?;
        assert_eq!(stage.client.ask_udp_from(5000, "192.0.2.1:8080")?, "program 192.0.2.2");
        drop(program);
        let web = stage.publishing(&["8080:80/udp"])?;
        let _server = web.container().udp_echo("0.0.0.0:80", "web")?;
        chain.add(&stage.host, &web)?;
        assert_eq!(stage.client.ask_udp_from(5000, "192.0.2.1:8080")?, "web 192.0.2.2");
        Ok(())
    });
}

#[test]
fn a_udp_flow_follows_its_port_to_another_container() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain()?);
        let (one, two) = (stage.publishing(&["8080:80/udp"])?, stage.publishing(&["8080:80/udp"])?);
        let _servers =
            [one.container().udp_echo("0.0.0.0:80", "one")?, two.container().udp_echo("0.0.0.0:80", "two")?];
        chain.add(&stage.host, &one)?;
        assert_eq!(stage.client.ask_udp_from(5000, "192.0.2.1:8080")?, "one 192.0.2.2");
        chain.del(&stage.host, &one)?;
        assert_eq!(stage.host.conntrack()?.iter().filter(|flow| flow.contains("sport=5000")).count(), 0);
        chain.add(&stage.host, &two)?;
        assert_eq!(stage.client.ask_udp_from(5000, "192.0.2.1:8080")?, "two 192.0.2.2");
        Ok(())
    });
}

/// The container itself and its neighbour, through the host's own addresses.
fn ensure_hairpin(bridge_netfilter: &str) {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain()?);
        for tables in ["iptables", "ip6tables"] {
            stage.host.set_sysctl(&format!("net.bridge.bridge-nf-call-{tables}"), bridge_netfilter)?;
        }
        let (web, neighbour) = (stage.publishing(&["8080:80"])?, stage.container()?);
        chain.add(&stage.host, &web)?;
        chain.add(&stage.host, &neighbour)?;
        let _server = web.container().tcp_echo("[::]:80", "web")?;
        for asking in [&web, &neighbour] {
            for port in ["192.0.2.1:8080", "10.88.0.1:8080", "[2001:db8:1::1]:8080", "[2001:db8:88::1]:8080"]
            {
                let answer = asking.container().ask_tcp(port);
                ensure!(answer.is_ok(), "{} asks {port}: {answer:?}", asking.id());
            }
        }
        Ok(())
    });
}

#[test]
fn containers_reach_published_ports_through_the_host_without_bridge_netfilter() {
    ensure_hairpin("0");
}

#[test]
fn containers_reach_published_ports_through_the_host_with_bridge_netfilter() {
    ensure_hairpin("1");
}

#[test]
fn localhost_of_the_host_leads_to_published_ports_and_is_closed_to_containers() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain()?);
        let web = stage.publishing(&["8080:80"])?;
        chain.add(&stage.host, &web)?;
        let _server = web.container().tcp_echo("[::]:80", "web")?;
        assert_eq!(stage.host.ask_tcp("127.0.0.1:8080")?, "web 10.88.0.1");
        let _private = stage.host.tcp_echo("127.0.0.1:9000", "private")?;
        let inside = web.container();
        inside.set_sysctl("net.ipv4.conf.eth0.route_localnet", "1")?;
        inside.ip("route add 127.0.0.1/32 via 10.88.0.1")?;
        assert!(inside.ask_tcp("127.0.0.1:9000").is_err(), "the host's 127.0.0.1 is open to a container");
        stage.host.nft("flush chain inet zeugma localhost")?;
        assert!(inside.ask_tcp("127.0.0.1:9000").is_ok(), "the test itself cannot reach it");
        Ok(())
    });
}

#[test]
fn route_localnet_is_on_only_while_ports_are_published() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain()?);
        let (one, two) = (stage.publishing(&["8080:80"])?, stage.publishing(&["8081:80"])?);
        let is_on = || stage.host.sysctl("net.ipv4.conf.br0.route_localnet");
        chain.add(&stage.host, &stage.container()?)?;
        assert_eq!(is_on()?, "0");
        chain.add(&stage.host, &one)?;
        chain.add(&stage.host, &two)?;
        chain.del(&stage.host, &one)?;
        assert_eq!(is_on()?, "1");
        chain.del(&stage.host, &two)?;
        assert_eq!(is_on()?, "0");
        assert_eq!(stage.host.sysctl("net.ipv4.conf.all.route_localnet")?, "0");
        Ok(())
    });
}

#[test]
fn masq_all_hides_every_client() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain_with(json!({"masqAll": true}))?);
        let web = stage.publishing(&["8080:80"])?;
        chain.add(&stage.host, &web)?;
        let _server = web.container().tcp_echo("[::]:80", "web")?;
        assert_eq!(stage.client.ask_tcp("192.0.2.1:8080")?, "web 10.88.0.1");
        assert_eq!(stage.client.ask_tcp("[2001:db8:1::1]:8080")?, "web 2001:db8:88::1");
        chain.del(&stage.host, &web)?;
        assert!(!stage.host.nft_table("inet zeugma")?.contains(web.id()));
        Ok(())
    });
}

#[test]
fn without_snat_clients_stay_who_they_are_and_localhost_leads_nowhere() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain_with(json!({"snat": false}))?);
        let web = stage.publishing(&["8080:80"])?;
        chain.add(&stage.host, &web)?;
        let _server = web.container().tcp_echo("[::]:80", "web")?;
        assert_eq!(stage.client.ask_tcp("192.0.2.1:8080")?, "web 192.0.2.2");
        assert_eq!(stage.host.sysctl("net.ipv4.conf.br0.route_localnet")?, "0");
        assert!(stage.host.ask_tcp("127.0.0.1:8080").is_err());
        Ok(())
    });
}

#[test]
fn no_ports_no_trace() {
    run(|world| {
        let (stage, chain) =
            (Stage::new(world)?, network("net", &[with(bridge(0), json!({"ipMasq": false})), portmap()])?);
        chain.add(&stage.host, &stage.container()?)?;
        chain.add(&stage.host, &stage.publishing(&[])?)?;
        assert_eq!(stage.host.nft_ruleset()?, "");
        assert!(!stage.host.run_dir().join("ports").exists());
        Ok(())
    });
}

#[test]
fn two_hundred_and_six_ports_in_one_add() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain()?);
        let ports: Vec<String> = (0..206).map(|port| format!("{}:{}", 20000 + port, 3000 + port)).collect();
        let web = stage.publishing(&ports.iter().map(String::as_str).collect::<Vec<_>>())?;
        chain.add(&stage.host, &stage.publishing(&["8080:80"])?)?;
        let before = stage.residue()?;
        chain.add(&stage.host, &web)?;
        for port in [3000, 3100, 3205] {
            let _server = web.container().tcp_echo(&format!("[::]:{port}"), &port.to_string())?;
            let answer = stage.client.ask_tcp(&format!("192.0.2.1:{}", port + 17000))?;
            assert_eq!(answer, format!("{port} 192.0.2.2"));
        }
        chain.del(&stage.host, &web)?;
        stage.host.run(["conntrack", "-F"])?;
        stage.ensure_unchanged(&before)
    });
}

#[test]
fn senseless_settings_are_refused_by_name() {
    let refused = |keys: Value, ports: &[&str], code: u64, word: &str| {
        run(|world| {
            let (stage, chain) = (Stage::new(world)?, chain_with(keys.clone())?);
            let error = refusal(chain.add(&stage.host, &stage.publishing(ports)?));
            assert_eq!((error.plugin.as_str(), error.code), ("portmap", code), "{error}");
            ensure!(error.msg.contains(word), "{error} does not say {word}");
            Ok(())
        });
    };
    refused(json!({"markMasqBit": 32}), &["80:80"], 7, "markMasqBit");
    refused(json!({"markMasqBit": -1}), &["80:80"], 7, "markMasqBit");
    refused(json!({"markMasqBit": 3, "externalSetMarkChain": "KUBE"}), &["80:80"], 7, "externalSetMarkChain");
    refused(json!({"externalSetMarkChain": "KUBE"}), &["80:80"], 2, "externalSetMarkChain");
    refused(json!({"conditionsV4": ["-s", "192.0.2.0/24"]}), &["80:80"], 2, "conditionsV4");
    refused(json!({"backend": "ipvs"}), &["80:80"], 7, "ipvs");
    refused(json!({}), &["0:80"], 7, "hostPort");
    refused(json!({}), &["80:65536"], 7, "containerPort");
    refused(json!({}), &["80:80/icmp"], 7, "icmp");
    refused(json!({}), &["host:80:80"], 7, "host");
}
