//! Services across hosts: three machines with agents that share an etcd, and the traffic between their containers.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use netns_fixtures::{Host, Server, World, eventually, run};
use serde_json::Value;
use zeugma_tests::agent::{SOON, ensure_told};
use zeugma_tests::cluster::{Cluster, Underlay};

const HOSTS: [&str; 3] = ["a", "b", "c"];

/// Three hosts with a network of the same name and another subnet on each, routed to one another: 10.N.0.0/24 and
/// fd00:N::/64 on the host at place N.
fn routed(world: &World) -> Result<Cluster<'_>> {
    routed_with(world, &[])
}

fn routed_with<'a>(world: &'a World, flags: &[&str]) -> Result<Cluster<'a>> {
    let cluster = Cluster::plan(world).flags(flags).build(&HOSTS)?;
    for (place, name) in (1..).zip(HOSTS) {
        let subnets = format!("--subnet 10.{place}.0.0/24 --subnet fd00:{place}::/64");
        cluster.zeugma(name, &format!("network create front --ipv6 {subnets}"))?;
        let ways = [
            format!("10.{place}.0.0/24 via 192.0.2.{place}"),
            format!("fd00:{place}::/64 via 2001:db8:1::{place}"),
        ];
        let others = HOSTS.iter().filter(|other| **other != name).map(|other| cluster.host(other));
        for host in others.chain([&cluster.switch]) {
            ways.iter().try_for_each(|way| host.ip(&format!("route add {way}")).map(drop))?;
        }
    }
    Ok(cluster)
}

/// A container on a host that says its name at port 8080, and serves `web` by its alias.
struct Replica {
    host: Host,
    _server: Server,
}

fn replica(cluster: &Cluster<'_>, host: &str, name: &str, alias: &str) -> Result<Replica> {
    let container = cluster.world.container(name)?;
    cluster.connect(host, "front", &container, &format!("--alias {alias}"))?;
    let server = container.tcp_echo("[::]:8080", name)?;
    Ok(Replica { host: container, _server: server })
}

/// Creates `web` with more flags and returns its virtual addresses, as they stand in names and in URLs.
fn create(cluster: &Cluster<'_>, flags: &str) -> Result<Vec<(String, String)>> {
    let words = "service create web --network front --port 80:8080";
    cluster.zeugma("a", &format!("{words} {flags}"))?;
    let view = cluster.agent("a").get("/v1/services/web")?.1;
    let vips = view["service"]["vips"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let vips: Vec<String> = vips.map(str::to_owned).collect();
    ensure!(vips.len() == 2, "{view}");
    Ok(vips.into_iter().map(|vip| (vip.clone(), at(&vip, 80))).collect())
}

const WEB: &str = "--selector zeugma.alias=web";

fn at(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// Who answers at an address, as often as it takes to hear everybody.
fn answering(client: &Host, at: &str) -> BTreeSet<String> {
    let name = |told: String| told.split(' ').next().unwrap_or_default().to_owned();
    (0..24).filter_map(|_| client.ask_tcp(at).ok().map(name)).collect()
}

/// Demands that these answer there, and nobody else.
fn ensure_answer(client: &Host, at: &str, expected: &[&str]) -> Result<()> {
    let expected: BTreeSet<String> = expected.iter().map(|name| String::from(*name)).collect();
    let is_so = || answering(client, at) == expected;
    ensure!(
        eventually(SOON, is_so),
        "{at} from {}: {:?} instead of {expected:?}",
        client.name(),
        answering(client, at)
    );
    Ok(())
}

/// A replica on each of these hosts, called `web-HOST`.
fn replicas(cluster: &Cluster<'_>, hosts: &[&str]) -> Result<Vec<Replica>> {
    hosts.iter().map(|host| replica(cluster, host, &format!("web-{host}"), "web")).collect()
}

#[test]
fn a_virtual_address_leads_to_the_containers_of_every_host_from_every_host() {
    run(|world| {
        let cluster = routed(world)?;
        let replicas = replicas(&cluster, &HOSTS)?;
        for (name, vip) in create(&cluster, WEB)? {
            for host in HOSTS {
                ensure_answer(cluster.host(host), &vip, &["web-a", "web-b", "web-c"])?;
            }
            // A container among those that serve: also its own client.
            ensure_answer(&replicas[1].host, &vip, &["web-a", "web-b", "web-c"])?;
            let kind = if name.contains(':') { "AAAA" } else { "A" };
            for (place, replica) in (1..).zip(&replicas) {
                let question = format!("web.zeugma.internal {kind}");
                ensure_told(
                    &replica.host,
                    &format!("10.{place}.0.1"),
                    &question,
                    std::slice::from_ref(&name),
                )?;
            }
        }
        Ok(())
    });
}

#[test]
fn containers_are_seen_by_their_own_addresses_on_other_hosts() {
    run(|world| {
        let cluster = routed(world)?;
        let _web = replicas(&cluster, &["b"])?;
        let vips = create(&cluster, WEB)?;
        let (client, own) = cluster.container("a", "front", "client")?;
        for ((_, vip), own) in vips.iter().zip(own) {
            let (told, expected) = (|| client.ask_tcp(vip), format!("web-b {own}"));
            let is_so = || told().is_ok_and(|told| told == expected);
            ensure!(eventually(SOON, is_so), "{:?} instead of {expected}", told());
        }
        Ok(())
    });
}

#[test]
fn on_an_overlay_services_need_no_routes_of_anybodys() {
    run(|world| {
        let mut cluster = Cluster::new(world, &HOSTS)?;
        let client = cluster.outsider("client")?;
        cluster.zeugma("a", "network create -d overlay front")?;
        let attached =
            |host: &str| cluster.zeugma(host, "network ls").is_ok_and(|told| told.contains("front"));
        ensure!(
            eventually(SOON, || HOSTS.iter().all(|host| attached(host))),
            "not every host has the network"
        );
        let _replicas = ["b", "c"].map(|host| connected_soon(&cluster, host, &format!("web-{host}")));
        let asker = connected_soon(&cluster, "a", "asker")?;
        cluster.zeugma("a", "service create web --network front --port 80:8080 --publish 8088:80 --vip 10.213.0.9 --selector zeugma.alias=web")?;
        ensure_answer(&asker.host, "10.213.0.9:80", &["web-b", "web-c", "asker"])?;
        for host in HOSTS {
            let published = at(cluster.address(host, 4), 8088);
            ensure_answer(&client, &published, &["web-b", "web-c", "asker"])?;
        }
        Ok(())
    });
}

/// Three hosts with an overlay `front`, and a container on it on each of these.
fn overlaid<'a>(world: &'a World, options: &str, on: &[&str]) -> Result<(Cluster<'a>, Vec<Replica>)> {
    let cluster = Cluster::new(world, &HOSTS)?;
    cluster.zeugma("a", &format!("network create -d overlay front --ipv6 {options}"))?;
    let attached = |host: &str| cluster.zeugma(host, "network ls").is_ok_and(|told| told.contains("front"));
    ensure!(eventually(SOON, || HOSTS.iter().all(|host| attached(host))), "not every host has the network");
    let replicas = on.iter().map(|host| connected_soon(&cluster, host, &format!("web-{host}")));
    let replicas = replicas.collect::<Result<_>>()?;
    Ok((cluster, replicas))
}

#[test]
fn a_container_of_another_network_reaches_what_serves_on_an_overlay_of_other_hosts() {
    run(|world| {
        let (cluster, _replicas) = overlaid(world, "", &["b", "c"])?;
        let vips = create(&cluster, WEB)?;
        let asker = connected_soon(&cluster, "a", "asker")?;
        for network in ["own", "shut --internal"] {
            cluster.zeugma("a", &format!("network create {network} --ipv6"))?;
            let network = network.split(' ').next().unwrap_or_default();
            let (client, _) = cluster.container("a", network, &format!("of-{network}"))?;
            for (_, vip) in &vips {
                ensure_answer(&client, vip, &["web-b", "web-c", "asker"])?;
            }
        }
        let own = asker.host.ip("-4 -o address show eth0")?.stdout;
        ensure!(
            eventually(SOON, || {
                let told = asker.host.ask_tcp(&vips[0].1).unwrap_or_default();
                let seen = told.split(' ').nth(1).unwrap_or_default().to_owned();
                told.starts_with("web-") && own.contains(&format!(" {seen}/"))
            }),
            "others of the network do not see its address: {own}"
        );
        Ok(())
    });
}

#[test]
fn where_hosts_need_no_tunnel_their_own_traffic_and_the_mesh_s_reaches_containers() {
    run(|world| {
        let (mut cluster, replicas) = overlaid(world, "--opt backend=auto", &["b"])?;
        let client = cluster.outsider("client")?;
        create(&cluster, &format!("{WEB} --publish 8088:80"))?;
        let addresses = replicas[0].host.ip("-o address show eth0 scope global")?.stdout;
        let words: Vec<&str> = addresses.split_whitespace().collect();
        for (is, address) in words.iter().zip(words.iter().skip(1)).filter(|(is, _)| is.starts_with("inet")) {
            let bare = address.split('/').next().unwrap_or_default();
            ensure_answer(cluster.host("a"), &at(bare, 8080), &["web-b"])?;
            let family = if *is == "inet" { 4 } else { 6 };
            ensure_answer(&client, &at(cluster.address("c", family), 8088), &["web-b"])?;
        }
        Ok(())
    });
}

/// A replica as soon as the host has a block of the overlay.
fn connected_soon(cluster: &Cluster<'_>, host: &str, name: &str) -> Result<Replica> {
    let container = cluster.world.container(name)?;
    let connected = || cluster.connect(host, "front", &container, "--alias web");
    let mut last = connected();
    ensure!(
        eventually(SOON, || {
            last = if last.is_ok() { Ok(Vec::new()) } else { connected() };
            last.is_ok()
        }),
        "{last:?}"
    );
    let server = container.tcp_echo("[::]:8080", name)?;
    Ok(Replica { host: container, _server: server })
}

#[test]
fn a_published_port_answers_on_every_host_also_on_one_without_containers() {
    run(|world| {
        let mut cluster = routed(world)?;
        let client = cluster.outsider("client")?;
        let _replicas = replicas(&cluster, &["a", "b"])?;
        create(&cluster, &format!("{WEB} --publish 8088:80"))?;
        for host in HOSTS {
            for family in [4, 6] {
                let published = at(cluster.address(host, family), 8088);
                ensure_answer(&client, &published, &["web-a", "web-b"])?;
            }
        }
        Ok(())
    });
}

#[test]
fn who_prefers_local_endpoints_gets_others_when_there_are_none() {
    run(|world| {
        let cluster = routed(world)?;
        let _replicas = replicas(&cluster, &["a", "b"])?;
        let vips = create(&cluster, &format!("{WEB} --traffic prefer-local"))?;
        let vip = &vips[0].1;
        for (host, expected) in [("a", &["web-a"][..]), ("b", &["web-b"]), ("c", &["web-a", "web-b"])] {
            ensure_answer(cluster.host(host), vip, expected)?;
        }
        cluster.zeugma("a", "network disconnect front web-a")?;
        ensure_answer(cluster.host("a"), vip, &["web-b"])
    });
}

#[test]
fn a_host_that_dies_takes_its_endpoints_with_it_and_brings_them_back() {
    run(|world| {
        let cluster = routed_with(world, &["--node-ttl", "3"])?;
        let _replicas = replicas(&cluster, &["a", "b"])?;
        let vips = create(&cluster, WEB)?;
        let vip = &vips[0].1;
        ensure_answer(cluster.host("c"), vip, &["web-a", "web-b"])?;
        cluster.cut("b")?;
        ensure_answer(cluster.host("c"), vip, &["web-a"])?;
        cluster.join("b")?;
        ensure_answer(cluster.host("c"), vip, &["web-a", "web-b"])
    });
}

#[test]
fn while_etcd_is_away_all_goes_on_and_an_agent_that_starts_knows_everything() {
    run(|world| {
        let mut cluster = routed(world)?;
        let replicas = replicas(&cluster, &["a", "b"])?;
        let (name, vip) = create(&cluster, WEB)?.swap_remove(0);
        for host in HOSTS {
            ensure_answer(cluster.host(host), &vip, &["web-a", "web-b"])?;
            cluster.await_remembered(host, "web/10.2.0.2")?;
        }
        cluster.stop_etcd();
        HOSTS.iter().try_for_each(|host| cluster.restart_agent(host))?;
        let catalogue =
            |cluster: &Cluster<'_>| cluster.agent("a").status().map(|status| status["catalogue"].clone());
        let recalls = || catalogue(&cluster).is_ok_and(|told| told["recalled"] == true);
        ensure!(eventually(SOON, recalls), "{:?}", catalogue(&cluster));
        ensure_told(&replicas[0].host, "10.1.0.1", "web.zeugma.internal", &[name])?;
        HOSTS.iter().try_for_each(|host| ensure_answer(cluster.host(host), &vip, &["web-a", "web-b"]))?;
        let _late = replica(&cluster, "a", "late", "web")?;
        ensure_answer(cluster.host("a"), &vip, &["web-a", "web-b", "late"])?;
        cluster.start_etcd()?;
        let answers = || catalogue(&cluster).is_ok_and(|told| told["degraded_since"].is_null());
        ensure!(eventually(SOON, answers), "{:?}", catalogue(&cluster));
        HOSTS.iter().try_for_each(|host| ensure_answer(cluster.host(host), &vip, &["web-a", "web-b", "late"]))
    });
}

#[test]
fn an_exchange_over_two_hosts_loses_no_request() {
    run(|world| {
        let cluster = routed(world)?;
        let hosts = ["a", "b"];
        let set = |version: &str| -> Result<Vec<Replica>> {
            hosts.iter().map(|host| replica(&cluster, host, &format!("{version}-{host}"), version)).collect()
        };
        let (_old, _new) = (set("v1")?, set("v2")?);
        let vips = create(&cluster, "--selector zeugma.alias=v1 --update-monitor 1")?;
        let (vip, client) = (&vips[0].1, cluster.host("c"));
        ensure_answer(client, vip, &["v1-a", "v1-b"])?;
        let is_done = AtomicBool::new(false);
        let asked = || (0..).map_while(|_| (!is_done.load(Ordering::Relaxed)).then(|| client.ask_tcp(vip)));
        let told = thread::scope(|scope| {
            let asking = scope.spawn(|| asked().collect::<Vec<_>>());
            let updated = cluster.zeugma("c", "service update web --selector zeugma.alias=v2");
            let settled = updated.and_then(|_| ensure_answer(client, vip, &["v2-a", "v2-b"]));
            is_done.store(true, Ordering::Relaxed);
            settled.map(|()| asking.join().expect("it only asks"))
        })?;
        let lost: Vec<_> = told.iter().filter(|told| told.is_err()).collect();
        ensure!(lost.is_empty() && told.len() > 50, "of {} requests: {lost:?}", told.len());
        Ok(())
    });
}

/// The fixture itself: machines have leases of their own, and can be cut off.
#[test]
fn hosts_of_a_cluster_are_machines_of_their_own() {
    run(|world| {
        let cluster = Cluster::plan(world).underlay(Underlay::Routed).build(&["a", "b"])?;
        for (host, name) in [("a", "one"), ("b", "two")] {
            cluster.zeugma(host, "network create front --subnet 10.1.0.0/24")?;
            let (_container, addresses) = cluster.container(host, "front", name)?;
            ensure!(addresses == ["10.1.0.2"], "leases are shared: {addresses:?}");
        }
        ensure!(cluster.address("b", 4) == "198.51.100.2", "not behind the router");
        let (a, b) = (cluster.host("a"), cluster.host("b"));
        a.ping("198.51.100.2")?;
        cluster.cut("b")?;
        ensure!(a.ping("198.51.100.2").is_err() && b.ping("192.0.2.250").is_err(), "b is not cut off");
        cluster.join("b")?;
        cluster.cut_from_etcd("b")?;
        ensure!(b.ping("192.0.2.250").is_err() && b.ping("192.0.2.1").is_ok(), "b reaches etcd");
        cluster.join_to_etcd("b")?;
        b.ping("192.0.2.250")
    });
}
