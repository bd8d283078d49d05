//! Overlays settled in namespaces of their own, judged by ip(8), bridge(8) and packets.

mod ground;
mod routers;

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use ground::{Cluster, DEVICE, Ground, ensure_settled, heard};
use netns_fixtures::run;
use serde_json::{Value, json};
use zeugma_kernel::overlay::{Checksums, offload, probe_checksums, set_offload};

/// What others do to what is ours.
const DISTURBANCES: [&str; 12] = [
    "ip route del 10.9.2.0/24",
    "ip -6 route del fd00:9:0:2::/64",
    "ip route del unreachable 10.9.0.0/16",
    "ip neigh del 10.9.2.0 dev vx-net",
    "bridge fdb del fe:2d:83:d5:45:af dev vx-net dst 192.0.2.2",
    "ip addr del 10.9.1.0/32 dev vx-net",
    "ip link set vx-net mtu 1300",
    "ip link set vx-net address 02:00:00:00:00:99",
    "ip link set vx-net down",
    "ip link del vx-net",
    "ip link set vx-net type vxlan local 192.0.2.99",
    "ip route append 10.9.2.0/24 dev eth0 proto 124",
];

fn vxlan() -> Value {
    json!({"backend": "vxlan", "vni": "4096"})
}

#[test]
fn packets_pass_to_a_host_that_was_made_by_hand() {
    for is_v6 in [false, true] {
        run(|world| {
            let (ground, cluster) = (Ground::new(world)?, Cluster::new(vxlan())?);
            let cluster = if is_v6 { cluster.over_v6() } else { cluster };
            let desired = cluster.desired()?;
            let settled = ground.settling(async |overlays| Ok(overlays.settle(&desired).await?))?;
            ensure!(settled.failures.is_empty(), "{settled:#?}");
            ground.by_hand(&desired)?;
            // Strict filters drop what arrives by another link than an answer would leave by.
            ground.a.set_sysctl("net.ipv4.conf.all.rp_filter", "1")?;
            ground.b.run(["ping", "-c1", "-W5", "-I", "192.0.2.2", "10.9.1.1"])?;
            for switch in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
                assert_eq!(ground.a.sysctl(switch)?, "1", "{switch}");
            }
            for (from, to) in [("10.9.1.1", "10.9.2.1"), ("fd00:9:0:1::1", "fd00:9:0:2::1")] {
                ground.a.run(["ping", "-c1", "-W5", "-I", from, to])?;
                ground.b.run(["ping", "-c1", "-W5", "-I", to, from])?;
                // The host itself, by its address on the tunnel, and a packet as large as may be.
                ground.a.run(["ping", "-c1", "-W5", to])?;
                let size = if is_v6 { 1430 - 48 } else { 1450 - 48 };
                ground.a.run(["ping", "-c1", "-W5", "-Mdo", "-s", &size.to_string(), to])?;
            }
            Ok(())
        });
    }
}

#[test]
fn what_is_settled_stays_and_what_others_take_comes_back() {
    run(|world| {
        let (ground, desired) = (Ground::new(world)?, Cluster::new(vxlan())?.desired()?);
        ground.settling(async |overlays| {
            overlays.settle(&desired).await?;
            ensure_settled(&overlays.settle(&desired).await?)?;
            overlays.forget();
            ensure_settled(&overlays.settle(&desired).await?)?;
            let before = state(&ground)?;
            for line in DISTURBANCES {
                ground.a.run(line.split_whitespace())?;
                heard(overlays).await.with_context(|| line.to_owned())?;
                let settled = overlays.settle(&desired).await?;
                ensure!(settled.failures.is_empty(), "{line}: {settled:#?}");
                ensure!(state(&ground)? == before, "{line}: {settled:#?}, {}", state(&ground)?);
            }
            ensure_settled(&overlays.settle(&desired).await?)
        })
    });
}

#[test]
fn a_peer_that_is_gone_leaves_nothing_and_the_last_network_no_device() {
    run(|world| {
        let (ground, mut cluster) = (Ground::new(world)?, Cluster::new(vxlan())?);
        ground.settling(async |overlays| {
            overlays.settle(&cluster.desired()?).await?;
            let before = state(&ground)?;
            cluster.join("c", 3, &["192.0.2.3"])?;
            let settled = overlays.settle(&cluster.desired()?).await?;
            assert_eq!(settled.changed.len(), 5, "{settled:#?}");
            cluster.leave("c");
            overlays.settle(&cluster.desired()?).await?;
            ensure!(state(&ground)? == before, "{}", state(&ground)?);
            overlays.settle(&zeugma_overlay::Desired::default()).await?;
            ensure!(ground.a.ip("link show vx-net").is_err(), "the device stays");
            for family in ["-4", "-6"] {
                let left = ground.a.ip_json(&format!("{family} route show proto 124"))?;
                ensure!(left.as_array().is_some_and(Vec::is_empty), "{left}");
            }
            Ok(())
        })
    });
}

#[test]
fn what_is_somebody_else_s_is_left_alone_and_told() {
    run(|world| {
        let (ground, desired) = (Ground::new(world)?, Cluster::new(vxlan())?.desired()?);
        ground.a.ip("link add vx-net type vxlan id 7 dstport 4789 dev eth0")?;
        ground.a.ip("route add 10.9.0.0/16 dev eth0 metric 1000000")?;
        let (link, route) =
            (ground.a.ip_json("-d link show vx-net")?, ground.a.ip_json("route show 10.9.0.0/16")?);
        ground.settling(async |overlays| {
            let settled = overlays.settle(&desired).await?;
            let told = |word: &str| settled.failures.iter().any(|line| line.contains(word));
            ensure!(told("vx-net is somebody else's") && told("10.9.0.0/16"), "{settled:#?}");
            assert_eq!(settled.missing, BTreeSet::from([DEVICE.parse()?]));
            assert_eq!(settled.unguarded, BTreeSet::from(["10.9.0.0/16".parse()?]));
            overlays.settle(&zeugma_overlay::Desired::default()).await?;
            Ok(())
        })?;
        assert_eq!(ground.a.ip_json("-d link show vx-net")?, link);
        assert_eq!(ground.a.ip_json("route show 10.9.0.0/16")?, route);
        Ok(())
    });
}

#[test]
fn hosts_on_link_need_no_tunnel() {
    run(|world| {
        let (ground, desired) =
            (Ground::new(world)?, Cluster::new(json!({"backend": "host-gw"}))?.desired()?);
        ground.settling(async |overlays| {
            let settled = overlays.settle(&desired).await?;
            ensure!(settled.failures.is_empty(), "{settled:#?}");
            ensure_settled(&overlays.settle(&desired).await?)?;
            ground.a.ip("link set eth0 down")?;
            heard(overlays).await?;
            let settled = overlays.settle(&desired).await?;
            ensure!(!settled.failures.is_empty(), "routes by a link that is down");
            ground.a.ip("link set eth0 up")?;
            ground.a.ip("-6 addr replace 2001:db8::1/64 dev eth0 nodad")?;
            let mut settled = settled;
            while !settled.failures.is_empty() {
                heard(overlays).await?;
                settled = overlays.settle(&desired).await?;
            }
            Ok(())
        })?;
        ground.b.ip("route add 10.9.1.0/24 via 192.0.2.1")?;
        ground.a.run(["ping", "-c1", "-W5", "-I", "10.9.1.1", "10.9.2.1"])?;
        ensure!(ground.a.ip(&format!("link show {DEVICE}")).is_err(), "there is a tunnel");
        Ok(())
    });
}

#[test]
fn routes_by_a_link_that_is_not_there_are_told_and_made_when_it_is_back() {
    run(|world| {
        let (ground, desired) =
            (Ground::new(world)?, Cluster::new(json!({"backend": "host-gw"}))?.desired()?);
        ground.settling(async |overlays| {
            ensure!(overlays.settle(&desired).await?.failures.is_empty(), "the wire is there");
            ground.a.ip("link del eth0")?;
            heard(overlays).await?;
            let mut settled = overlays.settle(&desired).await?;
            let told = |to: &str| {
                let mut lines = settled.failures.iter();
                lines.any(|line| line.contains(to) && line.contains("no link eth0"))
            };
            ensure!(told("10.9.2.0/24") && told("fd00:9:0:2::/64"), "{settled:#?}");
            // It says so for as long as that is so.
            ensure!(overlays.settle(&desired).await?.failures == settled.failures, "it is told once");
            for line in [
                "link add eth0 type veth peer name wire",
                "link set wire up",
                "link set eth0 up",
                "addr add 192.0.2.1/24 dev eth0",
                "-6 addr add 2001:db8::1/64 dev eth0 nodad",
            ] {
                ground.a.ip(line)?;
            }
            while !settled.failures.is_empty() {
                heard(overlays).await?;
                settled = overlays.settle(&desired).await?;
            }
            for line in ["-4 route show 10.9.2.0/24", "-6 route show fd00:9:0:2::/64"] {
                assert_eq!(ground.a.ip_json(line)?[0]["dev"], "eth0");
            }
            Ok(())
        })
    });
}

/// All that is ours, as ip(8) and bridge(8) tell it.
fn state(ground: &Ground) -> Result<String> {
    let mut text = String::new();
    for line in ["-4 route show proto 124", "-6 route show proto 124", "neigh show dev vx-net nud permanent"]
    {
        text += &ground.a.ip(line)?.stdout;
    }
    text += &ground.a.run(["bridge", "fdb", "show", "dev", "vx-net"])?.stdout;
    let device = &ground.a.ip_json("-d addr show dev vx-net")?[0];
    for key in ["address", "mtu", "ifalias", "flags", "inet6_addr_gen_mode"] {
        text += &format!("{key} {}\n", device[key]);
    }
    let data = &device["linkinfo"]["info_data"];
    for key in ["id", "port", "local", "local6", "learning"] {
        text += &format!("{key} {}\n", data[key]);
    }
    for address in device["addr_info"].as_array().into_iter().flatten() {
        text += &format!("address {}/{}\n", address["local"], address["prefixlen"]);
    }
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    Ok(lines.join("\n"))
}

#[test]
fn a_thousand_peers_are_settled_and_one_more_is_a_few_changes() {
    run(|world| {
        let (ground, mut cluster) = (Ground::new(world)?, Cluster::new(vxlan())?);
        for number in 300..1300 {
            cluster.join(
                &format!("n{number}"),
                number,
                &[&format!("198.51.{}.{}", number / 250, number % 250)],
            )?;
        }
        ground.settling(async |overlays| {
            let desired = cluster.desired()?;
            let settled = overlays.settle(&desired).await?;
            ensure!(settled.failures.is_empty(), "{:#?}", settled.failures);
            ensure_settled(&overlays.settle(&desired).await?)?;
            cluster.leave("n300");
            let desired = cluster.desired()?;
            let settled = overlays.settle(&desired).await?;
            assert_eq!(settled.changed.len(), 5, "{settled:#?}");
            overlays.forget();
            ensure_settled(&overlays.settle(&desired).await?)?;
            let neighbours = ground.a.ip_json("neigh show dev vx-net nud permanent")?;
            assert_eq!(neighbours.as_array().map(Vec::len), Some(2 * 1000));
            Ok(())
        })
    });
}

/// A card that leaves the sum of the pseudo-header where the checksum belongs, as it is given to it. Here that is what
/// arrives on a veth, so the other end drops it.
#[test]
fn checksums_that_a_card_does_not_complete_are_found_and_computed_by_the_kernel() {
    run(|world| {
        let (ground, desired) = (Ground::new(world)?, Cluster::new(vxlan())?.desired()?);
        let link = DEVICE.parse()?;
        ground.settling(async |overlays| {
            overlays.settle(&desired).await?;
            ground.by_hand(&desired)?;
            let probed = async || probe_checksums(&link, "10.9.1.0".parse()?, "10.9.2.0".parse()?).await.context("probe");
            assert_eq!((probed().await?, offload(&link)?), (Checksums::Right, true));
            // Source, destination, protocol and length (8 + 25); at 76 bytes from the outer IP header.
            let sum = 0x0a09 + 0x0100 + 0x0a09 + 0x0200 + 17 + 33;
            let broken = |rule: &str| format!(
                "table netdev card {{ chain c {{ type filter hook ingress device eth0 priority 0; udp dport 4789 {rule} drop; }}; }}"
            );
            ground.b.nft(&broken(&format!("@nh,608,16 {sum:#x}")))?;
            assert_eq!((probed().await?, offload(&link)?), (Checksums::Mended, false));
            set_offload(&link, true)?;
            ground.b.nft("delete table netdev card")?;
            ground.b.nft(&broken(""))?;
            assert_eq!((probed().await?, offload(&link)?), (Checksums::Unknown, true));
            Ok(())
        })
    });
}

#[test]
fn others_reach_a_host_by_the_addresses_of_its_default_routes() {
    run(|world| {
        let ground = Ground::new(world)?;
        for line in [
            "addr add 192.0.2.77/24 dev eth0",
            "addr add 2001:db8::77/64 dev eth0 nodad preferred_lft 0",
            "link set eth0 mtu 1400",
        ] {
            ground.a.ip(line)?;
        }
        ground.settling(async |overlays| {
            let mut text = async |wanted: Option<&[IpAddr]>| -> Result<Vec<String>> {
                let found = overlays.underlay(wanted).await?;
                Ok(found.iter().map(|one| format!("{} {} {}", one.address, one.link, one.mtu)).collect())
            };
            ensure!(text(None).await?.is_empty(), "without a default route");
            ground.a.ip("route add default via 192.0.2.2 dev eth0")?;
            assert_eq!(text(None).await?, ["192.0.2.1/24 eth0 1400"]);
            ground.a.ip("-6 route add default via 2001:db8::2 dev eth0")?;
            assert_eq!(text(None).await?, ["192.0.2.1/24 eth0 1400", "2001:db8::1/64 eth0 1400"]);
            ground.a.ip("route replace default via 192.0.2.2 dev eth0 src 192.0.2.77")?;
            assert_eq!(text(None).await?[0], "192.0.2.77/24 eth0 1400");
            assert_eq!(text(Some(&["10.9.1.1".parse()?])).await?, ["10.9.1.1/24 br-net 1500"]);
            let told = text(Some(&["192.0.2.99".parse()?])).await.map_err(|error| error.to_string());
            ensure!(told.is_err_and(|told| told.contains("192.0.2.99")), "an address of nobody's");
            // What is there counts, whatever else is not there yet.
            let both = ["192.0.2.99".parse()?, "2001:db8::1".parse()?];
            assert_eq!(text(Some(&both)).await?, ["2001:db8::1/64 eth0 1400"]);
            Ok(())
        })
    });
}
