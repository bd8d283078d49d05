//! The host's own programs, on a host that has no default route.

use anyhow::{Result, ensure};
use netns_fixtures::{Host, run};
use zeugma_kernel::Kernel;

use crate::answer;
use crate::ground::{Ground, RANGES, VIPS, at, parsed, web_on};

fn hold(host: &Host, ranges: &[&str]) -> Result<()> {
    let ranges = parsed(ranges)?;
    host.enter(|| Ok(Kernel::host().hold_vip_routes(&ranges)?))
}

/// Destinations of the routes by way of `lo` in both main tables.
fn by_lo(host: &Host) -> Result<Vec<String>> {
    let mut destinations = Vec::new();
    for line in ["route show dev lo", "-6 route show dev lo"] {
        let routes = host.ip_json(line)?;
        let all = routes.as_array().into_iter().flatten().filter_map(|route| route["dst"].as_str());
        destinations.extend(all.map(str::to_owned));
    }
    Ok(destinations)
}

#[test]
fn a_host_without_a_default_route_reaches_services() {
    run(|world| {
        let ground = Ground::new(world, 1)?;
        let (_servers, mut plane) = (ground.echoes()?, ground.plane()?);
        plane.sync(&[web_on(&[2])?])?;
        for line in ["route del default", "-6 route del default"] {
            ground.host.ip(line)?;
        }
        ensure!(answer(&ground.host, &at(VIPS[0], 80)).is_err(), "there is a route without ours");
        hold(&ground.host, &RANGES)?;
        for vip in VIPS {
            ensure!(answer(&ground.host, &at(vip, 80))?.0 == "c2");
            ensure!(ground.host.ask_udp(&at(vip, 80))?.starts_with("c2"));
            ground.host.ping(vip)?;
        }
        Ok(())
    });
}

/// Without rules the host's own services would answer there, and what containers send would go round on `lo`.
#[test]
fn addresses_of_a_range_that_are_no_service_s_are_refused_at_once() {
    run(|world| {
        let ground = Ground::new(world, 1)?;
        ground.plane()?.sync(&[web_on(&[2])?])?;
        let _own = [ground.host.tcp_echo("[::]:80", "host")?, ground.host.udp_echo("[::]:80", "host")?];
        hold(&ground.host, &RANGES)?;
        for client in [&ground.host, &ground.client, &ground.elsewhere, &ground.containers[0]] {
            for address in ["10.96.0.99", "fd00:96::99"].map(|address| at(address, 80)) {
                let tcp = client.ask_tcp(&address);
                ensure!(tcp.is_err_and(|error| !error.is_timeout()), "{} {address}", client.name());
                let udp = client.ask_udp(&address);
                ensure!(udp.is_err_and(|error| !error.is_timeout()), "{} {address} over UDP", client.name());
            }
        }
        let lo = ground.host.ip_json("-s link show lo")?;
        let packets = lo[0]["stats64"]["rx"]["packets"].as_u64();
        ensure!(packets.is_some_and(|packets| packets < 30), "{packets:?} packets went round on lo");
        Ok(())
    });
}

/// Where they lead is said by rules behind ours.
#[test]
fn others_routes_by_lo_are_none_of_ours() {
    run(|world| {
        let ground = Ground::new(world, 1)?;
        let (_servers, mut plane) = (ground.echoes()?, ground.plane()?);
        plane.sync(&[web_on(&[2])?])?;
        hold(&ground.host, &RANGES)?;
        for line in ["route add 10.43.0.0/16 dev lo", "-6 route add fd00:43::/64 dev lo"] {
            ground.host.ip(line)?;
        }
        for hook in ["prerouting", "output"] {
            ground.host.nft(&format!(
                "table inet foreign {{ chain {hook} {{ type nat hook {hook} priority -100;
                 ip daddr 10.43.0.1 dnat ip to 10.88.0.2; ip6 daddr fd00:43::1 dnat ip6 to fd00:88::2; }}; }}"
            ))?;
        }
        ground.client.ip("route add 10.43.0.0/16 via 192.0.2.1")?;
        ground.client.ip("-6 route add fd00:43::/64 via 2001:db8:1::1")?;
        for client in [&ground.host, &ground.client, &ground.elsewhere] {
            for address in ["10.43.0.1:80", "[fd00:43::1]:80"] {
                ensure!(client.ask_tcp(address)?.starts_with("c2"), "{} {address}", client.name());
            }
        }
        Ok(())
    });
}

#[test]
fn routes_to_ranges_of_the_past_go_and_others_routes_stay() {
    run(|world| {
        let host = world.host("host")?;
        host.ip("link set lo up")?;
        for line in ["route add 10.97.0.0/16 dev lo", "route add 10.98.0.0/16 dev lo proto static"] {
            host.ip(line)?;
        }
        let ours = ["10.96.0.0/16", "10.97.0.0/16", "fd00:96::/64"];
        hold(&host, &ours)?;
        hold(&host, &ours)?;
        let foreign = ["10.97.0.0/16", "10.98.0.0/16"].map(str::to_owned);
        let mut held = by_lo(&host)?;
        held.sort_unstable();
        ensure!(
            held == ["10.96.0.0/16", "10.97.0.0/16", "10.97.0.0/16", "10.98.0.0/16", "fd00:96::/64"],
            "{held:?}"
        );
        hold(&host, &["10.96.0.0/16"])?;
        ensure!(by_lo(&host)?.contains(&"10.96.0.0/16".to_owned()));
        hold(&host, &[])?;
        ensure!(by_lo(&host)? == foreign, "{:?}", by_lo(&host)?);
        Ok(())
    });
}
