//! Services, with real traffic through namespaces of their own.

mod ground;
mod load;
mod route;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::{Ground, VIPS, at, both, shares, web, web_on};
use netns_fixtures::{Host, eventually, run};
use serde_json::json;

/// The expressions of the rules, as libnftnl prints them.
const RULES: &str = include_str!("rules.txt");

/// Who answers, and as whom they see us.
pub(crate) fn answer(client: &Host, address: &str) -> Result<(String, String)> {
    let answer = client.ask_tcp(address).with_context(|| format!("{} asks {address}", client.name()))?;
    let (who, seen) = answer.split_once(' ').context("an answer of two words")?;
    Ok((who.to_owned(), seen.to_owned()))
}

/// The addresses of a service with nothing but IPv4 endpoints on the containers with these numbers.
fn v4_on(numbers: &[usize], keys: serde_json::Value) -> Result<zeugma_services::Workload> {
    let endpoints: Vec<String> = numbers.iter().map(|at| format!("10.88.0.{at}")).collect();
    web(keys, &endpoints.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_virtual_address_is_reached_from_everywhere() {
    run(|world| {
        let ground = Ground::new(world, 2)?;
        let (_servers, mut plane) = (ground.echoes()?, ground.plane()?);
        plane.sync(&[web_on(&[2, 3])?])?;
        for vip in VIPS.map(|vip| at(vip, 80)) {
            for client in [&ground.client, &ground.host, &ground.elsewhere, &ground.containers[0]] {
                let (who, _) = answer(client, &vip)?;
                ensure!(["c2", "c3"].contains(&who.as_str()), "{who}");
                client.ask_udp(&vip).with_context(|| format!("{} asks {vip}/udp", client.name()))?;
            }
        }
        Ok(())
    });
}

#[test]
fn endpoints_see_their_clients_addresses() {
    run(|world| {
        let ground = Ground::new(world, 2)?;
        let (_servers, mut plane) = (ground.echoes()?, ground.plane()?);
        // Masquerade by network, as `inet zeugma` has it, does not reach services.
        let masquerade =
            "chain p { type nat hook postrouting priority 100; ip saddr 10.88.0.0/15 masquerade; }";
        ground.host.nft(&format!("table ip other {{\n{masquerade}\n}}"))?;
        plane.sync(&[web_on(&[3])?])?;
        let clients = [
            (&ground.client, ["192.0.2.2", "2001:db8:1::2"]),
            (&ground.elsewhere, ["10.89.0.2", "fd00:89::2"]),
            (&ground.containers[0], ["10.88.0.2", "fd00:88::2"]),
        ];
        for (client, addresses) in clients {
            for (vip, address) in VIPS.iter().zip(addresses) {
                let seen = answer(client, &at(vip, 80))?;
                ensure!(seen == ("c3".to_owned(), address.to_owned()), "{} is {seen:?}", client.name());
            }
        }
        Ok(())
    });
}

#[test]
fn a_client_that_is_its_own_backend_reaches_itself() {
    run(|world| {
        let ground = Ground::new(world, 1)?;
        let (_servers, mut plane) = (ground.echoes()?, ground.plane()?);
        plane.sync(&[web_on(&[2])?])?;
        for (vip, gateway) in VIPS.iter().zip(["10.88.0.1", "fd00:88::1"]) {
            let seen = answer(&ground.containers[0], &at(vip, 80))?;
            ensure!(seen == ("c2".to_owned(), gateway.to_owned()), "{seen:?}");
        }
        Ok(())
    });
}

#[test]
fn where_answers_pass_the_host_by_clients_are_masqueraded() {
    run(|world| {
        let mut ground = Ground::new(world, 2)?;
        for sysctl in ["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"] {
            ground.host.set_sysctl(sysctl, "0")?;
        }
        ground.situation.direct = vec!["10.88.0.0/24".parse()?, "fd00:88::/64".parse()?];
        let (_servers, mut plane) = (ground.echoes()?, ground.plane()?);
        plane.sync(&[web_on(&[3])?])?;
        for (vip, gateway) in VIPS.iter().zip(["10.88.0.1", "fd00:88::1"]) {
            let seen = answer(&ground.containers[0], &at(vip, 80))?;
            ensure!(seen == ("c3".to_owned(), gateway.to_owned()), "{seen:?}");
        }
        Ok(())
    });
}

#[test]
fn a_virtual_address_answers_ping() {
    run(|world| {
        let ground = Ground::new(world, 1)?;
        let mut plane = ground.plane()?;
        plane.sync(&[web_on(&[])?])?;
        for client in [&ground.client, &ground.host, &ground.elsewhere, &ground.containers[0]] {
            for vip in VIPS {
                client.ping(vip).with_context(|| format!("{} pings {vip}", client.name()))?;
            }
        }
        Ok(())
    });
}

#[test]
fn without_endpoints_and_at_other_ports_clients_are_refused_at_once() {
    run(|world| {
        let ground = Ground::new(world, 1)?;
        let (_servers, mut plane) = (ground.echoes()?, ground.plane()?);
        plane.sync(&[web_on(&[])?])?;
        for client in [&ground.client, &ground.host, &ground.elsewhere, &ground.containers[0]] {
            for vip in VIPS.iter().flat_map(|vip| [at(vip, 80), at(vip, 81)]) {
                let (tcp, udp) = (client.ask_tcp(&vip), client.ask_udp(&vip));
                ensure!(
                    tcp.as_ref().is_err_and(|error| error.is_refused()),
                    "{} {vip} {tcp:?}",
                    client.name()
                );
                // The host's own programs cannot even send: EPERM.
                ensure!(
                    udp.as_ref().is_err_and(|error| !error.is_timeout()),
                    "{} {vip} {udp:?}",
                    client.name()
                );
            }
        }
        plane.update(&web_on(&[2])?)?;
        ensure!(answer(&ground.client, &at(VIPS[0], 80))?.0 == "c2");
        Ok(())
    });
}

#[test]
fn a_flow_of_datagrams_follows_the_endpoints() {
    run(|world| {
        let ground = Ground::new(world, 2)?;
        let (_servers, mut plane) = (ground.echoes()?, ground.plane()?);
        for (vip, server) in VIPS.iter().zip(["10.88.0.", "fd00:88::"]) {
            let vip = at(vip, 80);
            let ask = || ground.client.ask_udp_from(5000, &vip);
            plane.sync(&[web(json!({}), &[&format!("{server}2")])?])?;
            ensure!(ask()?.starts_with("c2"));
            plane.sync(&[web(json!({}), &[&format!("{server}2"), &format!("{server}3")])?])?;
            ensure!(ask()?.starts_with("c2"), "a flow moved though its endpoint is there");
            plane.sync(&[web(json!({}), &[&format!("{server}2 draining"), &format!("{server}3")])?])?;
            ensure!(ask()?.starts_with("c2"), "a flow moved though its endpoint is draining only");
            plane.sync(&[web(json!({}), &[&format!("{server}3")])?])?;
            ensure!(ask()?.starts_with("c3"), "a flow stayed with an endpoint that is gone");
            plane.sync(&[])?;
            ensure!(ask().is_err(), "a flow outlived its service");
        }
        Ok(())
    });
}

#[test]
fn a_flow_that_was_there_before_its_service_is_taken_over() {
    run(|world| {
        let ground = Ground::new(world, 1)?;
        let (_servers, mut plane) = (ground.echoes()?, ground.plane()?);
        // The host forwards what is not a virtual address yet to its default route.
        ensure!(ground.elsewhere.ask_udp_from(5000, &at(VIPS[0], 80)).is_err());
        plane.sync(&[web_on(&[2])?])?;
        ensure!(ground.elsewhere.ask_udp_from(5000, &at(VIPS[0], 80))?.starts_with("c2"));
        Ok(())
    });
}

#[test]
fn draining_endpoints_get_no_new_flows() {
    run(|world| {
        let ground = Ground::new(world, 2)?;
        let (_servers, mut plane) = (ground.echoes()?, ground.plane()?);
        plane.sync(&[web(json!({}), &["10.88.0.2 draining", "10.88.0.3"])?])?;
        let shares = shares(&ground.client, &at(VIPS[0], 80), 30)?;
        ensure!(shares.keys().eq(["c3"]), "{shares:?}");
        Ok(())
    });
}

#[test]
fn flows_are_spread_evenly() {
    run(|world| {
        let ground = Ground::new(world, 4)?;
        let (_servers, mut plane) = (ground.echoes()?, ground.plane()?);
        plane.sync(&[web_on(&[2, 3, 4, 5])?])?;
        for vip in VIPS {
            let shares = shares(&ground.client, &at(vip, 80), 400)?;
            let square = |share: &usize| (*share as f64 - 100.0).powi(2) / 100.0;
            let chi_square: f64 = shares.values().map(square).sum();
            // Three degrees of freedom: chance exceeds 40 once in 10^8 times.
            ensure!(shares.len() == 4 && chi_square < 40.0, "{shares:?}");
        }
        Ok(())
    });
}

#[test]
fn weights_are_kept() {
    run(|world| {
        let ground = Ground::new(world, 2)?;
        let (_servers, mut plane) = (ground.echoes()?, ground.plane()?);
        let mut workload = v4_on(&[2, 3], json!({}))?;
        workload.endpoints[1].weight = 9_u16.try_into()?;
        plane.sync(&[workload])?;
        let shares = shares(&ground.client, &at(VIPS[0], 80), 300)?;
        let few = shares.get("c2").copied().unwrap_or(0);
        // 30 are expected, with a deviation of 5.2.
        ensure!((1..70).contains(&few), "{shares:?}");
        Ok(())
    });
}

#[test]
fn more_than_64_endpoints_are_served_by_a_table() {
    run(|world| {
        let ground = Ground::new(world, 1)?;
        let container = &ground.containers[0];
        let (mut endpoints, mut servers) = (Vec::new(), Vec::new());
        for number in 100..170 {
            container.ip(&format!("addr add 10.88.0.{number}/24 dev eth0"))?;
            endpoints.push(format!("10.88.0.{number}"));
            servers.push(container.tcp_echo(&format!("10.88.0.{number}:80"), &number.to_string())?);
        }
        let mut plane = ground.plane()?;
        let all: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        plane.sync(&[web(json!({}), &all)?])?;
        let before = shares(&ground.client, &at(VIPS[0], 80), 300)?;
        ensure!(before.len() > 50, "{} endpoints answered: {before:?}", before.len());
        let changed = plane.update(&web(json!({}), &all[1..])?)?;
        ensure!(changed < 2 * 2 * 1024 / 3, "{changed} elements changed for one endpoint");
        ensure!(!shares(&ground.client, &at(VIPS[0], 80), 300)?.contains_key("100"));
        Ok(())
    });
}

#[test]
fn a_client_stays_with_its_endpoint_as_long_as_it_serves() {
    run(|world| {
        let ground = Ground::new(world, 4)?;
        let (_servers, mut plane) = (ground.echoes()?, ground.plane()?);
        let sticky = |numbers: &[usize]| {
            let endpoints = both(numbers);
            let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
            web(json!({"affinity": {"timeout_seconds": 3600}}), &endpoints)
        };
        plane.sync(&[sticky(&[2, 3, 4, 5])?])?;
        for vip in VIPS.map(|vip| at(vip, 80)) {
            let mut serving = BTreeSet::from([2, 3, 4, 5]);
            let first = answer(&ground.client, &vip)?.0;
            let who: usize = first.trim_start_matches('c').parse()?;
            let other = *serving.iter().find(|one| **one != who).context("another endpoint")?;
            serving.remove(&other);
            plane.sync(&[sticky(&serving.iter().copied().collect::<Vec<_>>())?])?;
            let mut restarted = ground.plane()?;
            ensure!(restarted.sync(&[sticky(&serving.iter().copied().collect::<Vec<_>>())?])? == 0);
            ensure!(shares(&ground.client, &vip, 20)?.keys().eq([&first]), "the client moved");
            serving.remove(&who);
            plane.sync(&[sticky(&serving.iter().copied().collect::<Vec<_>>())?])?;
            ensure!(
                shares(&ground.client, &vip, 20)?.len() == 1,
                "the client does not stay with the next one"
            );
            plane.sync(&[sticky(&[2, 3, 4, 5])?])?;
        }
        Ok(())
    });
}

#[test]
fn a_published_port_leads_to_the_service_and_keeps_the_client_s_address() {
    run(|world| {
        let ground = Ground::new(world, 2)?;
        let (_servers, mut plane) = (ground.echoes()?, ground.plane()?);
        let endpoints = both(&[2, 3]);
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        plane.sync(&[web(json!({"published": [{"published": 8080, "port": 80}]}), &endpoints)?])?;
        for (address, client) in [("192.0.2.1", "192.0.2.2"), ("2001:db8:1::1", "2001:db8:1::2")] {
            ensure!(answer(&ground.client, &at(address, 8080))?.1 == client);
            answer(&ground.host, &at(address, 8080))?;
            answer(&ground.elsewhere, &at(address, 8080))?;
        }
        ensure!(answer(&ground.client, "192.0.2.1:80").is_err(), "a port that is not published answers");
        Ok(())
    });
}

#[test]
fn a_host_without_services_has_no_table_of_them() {
    run(|world| {
        let ground = Ground::new(world, 1)?;
        ground.plane()?;
        ensure!(!ground.host.nft_ruleset()?.contains("zeugma_services"));
        Ok(())
    });
}

#[test]
fn a_restart_changes_nothing_and_mends_what_others_took_away() {
    run(|world| {
        let ground = Ground::new(world, 2)?;
        let (_servers, mut plane) = (ground.echoes()?, ground.plane()?);
        let workloads = [web_on(&[2, 3])?];
        plane.sync(&workloads)?;
        let before = ground.host.nft_table("inet zeugma_services")?;
        ensure!(ground.plane()?.sync(&workloads)? == 0);
        let element = "10.96.0.1 . tcp . 80 . 0x00000001";
        ground.host.nft(&format!("delete element inet zeugma_services endpoints_ip {{ {element} }}"))?;
        ensure!(ground.plane()?.sync(&workloads)? > 0);
        ensure!(ground.host.nft_table("inet zeugma_services")? == before, "the table is not as before");
        ground.host.nft("delete table inet zeugma_services")?;
        ground.plane()?.sync(&workloads)?;
        ensure!(ground.host.nft_table("inet zeugma_services")? == before, "the table is not as before");
        Ok(())
    });
}

#[test]
fn programming_notices_that_others_changed_the_table() {
    run(|world| {
        let ground = Ground::new(world, 2)?;
        let mut plane = ground.plane()?;
        plane.sync(&[web_on(&[2])?])?;
        ground.host.nft("flush ruleset")?;
        let error = plane.update(&web_on(&[2, 3])?).err().context("an update of what is gone succeeds")?;
        let error = error.downcast::<zeugma_kernel::Error>()?;
        ensure!(error.is_diverged(), "{error}");
        Ok(())
    });
}

/// An endpoint that no service accounts for stands where a new one is to be.
#[test]
fn what_is_in_the_way_is_found_when_it_is_looked_for_again() {
    run(|world| {
        let ground = Ground::new(world, 2)?;
        let (_servers, mut plane) = (ground.echoes()?, ground.plane()?);
        plane.sync(&[web_on(&[2])?])?;
        let element = "10.96.0.1 . tcp . 80 . 0x00000001 : 10.88.0.9 . 80";
        ground.host.nft(&format!("add element inet zeugma_services endpoints_ip {{ {element} }}"))?;
        let error = plane.sync(&[web_on(&[2, 3])?]).err().context("what is in the way is taken for ours")?;
        ensure!(error.downcast::<zeugma_kernel::Error>()?.is_diverged());
        plane.observed()?.sync(&[web_on(&[2, 3])?])?;
        ensure!(shares(&ground.client, &at(VIPS[0], 80), 60)?.len() == 2);
        Ok(())
    });
}

/// The keys and data in the kernel, as libnftnl prints them.
#[test]
fn registers_hold_what_the_rules_load() {
    run(|world| {
        let ground = Ground::new(world, 1)?;
        ground.plane()?.sync(&[web_on(&[2])?])?;
        let list = ["nft", "--debug=netlink", "list", "table", "inet", "zeugma_services"];
        let listed = ground.host.run(list)?.stdout;
        let [zero, one] =
            [0_u32, 1].map(|number| format!("{:08x}", u32::from_le_bytes(number.to_le_bytes())));
        for line in [
            format!("element 0100600a 00000006 00005000 {zero}  : 0200580a 00005000 0 [end]"),
            format!("element 0100600a 00000006 00005000  : {zero} {one} {one} 0 [end]"),
            format!(
                "element 960000fd 00000000 00000000 01000000 00000006 00005000 {zero}  : 880000fd 00000000 00000000 02000000 00005000 0 [end]"
            ),
            "[ numgen reg 11 = random mod 3 ]".to_owned(),
            "[ lookup reg 1 set services_ip dreg 1 0x0 ]".to_owned(),
            "[ lookup reg 9 set enter_ip dreg 0 0x0 ]".to_owned(),
            "[ lookup reg 1 set endpoints_ip dreg 1 0x0 ]".to_owned(),
            "[ nat dnat ip addr_min reg 1 addr_max reg 1 proto_min reg 9 proto_max reg 9 flags 0x3 ]"
                .to_owned(),
        ] {
            ensure!(listed.contains(&line), "missing: {line}");
        }
        Ok(())
    });
}

#[test]
fn no_request_is_lost_and_no_connection_cut_while_endpoints_change() {
    run(|world| {
        let ground = Ground::new(world, 4)?;
        let (_servers, mut plane) = (ground.echoes()?, ground.plane()?);
        plane.sync(&[web_on(&[2, 3, 4])?])?;
        let vip = at(VIPS[0], 80);
        let lasting = load::Lasting::open(&ground, &mut plane)?;
        let load = load::Load::start(&ground.client, &vip)?;
        for round in 0..300 {
            let changing: Vec<usize> =
                [2, 3, 4, 5].into_iter().filter(|at| (round + at) % 4 != 0 || round % 7 == 0).collect();
            plane.update(&web_on(&changing)?)?;
        }
        ensure!(eventually(Duration::from_secs(20), || load.answered() > 500), "few requests were answered");
        let failed = load.stop();
        ensure!(failed.is_empty(), "{} requests were lost: {:?}", failed.len(), failed.first());
        lasting.ensure_alive()
    });
}

/// One of each kind of the chains that differ in a number only.
fn is_one_of_many(chain: &str) -> bool {
    let number = chain.split('-').nth(1).and_then(|word| word.parse::<u32>().ok());
    number.is_none_or(|number| [1, 3, 10].contains(&number))
}

/// This test runs on two kernels.
#[test]
fn every_kernel_takes_the_rules_as_they_are_meant() {
    run(|world| {
        let ground = Ground::new(world, 1)?;
        ground.plane()?.sync(&[web_on(&[])?])?;
        let list = ["nft", "--debug=netlink", "list", "table", "inet", "zeugma_services"];
        let (mut rules, mut is_shown) = (String::new(), false);
        for line in ground.host.run(list)?.stdout.lines() {
            if let Some(rule) = line.strip_prefix("inet zeugma_services ") {
                let chain = rule.split(' ').next().unwrap_or_default();
                is_shown = !chain.starts_with('@') && is_one_of_many(chain);
                rules += &if is_shown { format!("{chain}\n") } else { String::new() };
            } else if is_shown && line.starts_with("  [ ") {
                rules += &format!("{}\n", line.trim_end());
            }
        }
        let differ = rules.lines().zip(RULES.lines()).find(|(is, meant)| is != meant);
        ensure!(rules == RULES, "first difference: {differ:?}; if it is meant, rules.txt is to be:\n{rules}");
        Ok(())
    });
}
