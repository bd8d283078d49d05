//! A host that has its way out from a router that advertises itself, and becomes a router.

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Host, eventually, run};
use nix::sys::socket::sockopt::Ipv6MulticastHops;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket};
use serde_json::{Value, json};
use zeugma_kernel::Kernel;
use zeugma_plan::{Plan, Side, Step, Sysctl};

use crate::ground::{Cluster, Ground};

/// Of ours with a bridge and without, and another program's.
const LINKS_TO_CONTAINERS: [&str; 5] = [
    "link add port type veth peer name port-in",
    "link set port master br-net",
    "link add free type veth peer name free-in",
    "link add marked type veth peer name marked-in",
    "link set marked alias zeugma-net",
];

/// All that listen on the link: RFC 4291, 2.7.1.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// `host` says on eth0 that it is a router for half an hour, and that 2001:db8:a::/64 is on link (RFC 4861, 4.2 and 4.6.2).
fn advertise(host: &Host) -> Result<()> {
    let index = host.ip_json("link show eth0")?[0]["ifindex"].as_u64().context("an index")?;
    let mut message = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend([3, 4, 64, 0xc0, 0, 0, 0x07, 0x08, 0, 0, 0x07, 0x08, 0, 0, 0, 0]);
    message.extend("2001:db8:a::".parse::<Ipv6Addr>()?.octets());
    host.enter(|| {
        let raw = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::IcmpV6)?;
        // Whoever is further away than the link is no router of it.
        setsockopt(&raw, Ipv6MulticastHops, &255)?;
        let to = SocketAddrV6::new(ALL_NODES, 0, 0, u32::try_from(index)?);
        UdpSocket::from(raw).send_to(&message, to).map(drop).context("advertise a router")
    })
}

/// What `host` has of advertised default routes.
fn ways_out(host: &Host) -> Result<Value> {
    host.ip_json("-6 route show default proto ra")
}

/// As overlays do, or as a step of a plugin's plan.
fn begin_to_forward(ground: &Ground, by_overlay: bool) -> Result<()> {
    if by_overlay {
        let desired = Cluster::new(json!({"backend": "host-gw"}))?.desired()?;
        return ground.settling(async |overlays| Ok(overlays.settle(&desired).await?)).map(drop);
    }
    let switch = Sysctl { path: "net/ipv6/conf/all/forwarding".into(), value: "1".into(), optional: false };
    let plan = Plan::from_iter([Step::SetSysctl(Side::Host, switch)]);
    ground.a.enter(|| Ok(Kernel::default().apply(&plan)?))
}

#[test]
fn a_host_that_begins_to_forward_keeps_the_router_that_advertised_itself() {
    for by_overlay in [true, false] {
        run(|world| {
            let ground = Ground::new(world)?;
            let is_heard =
                || advertise(&ground.b).is_ok() && ways_out(&ground.a).is_ok_and(|ways| ways != json!([]));
            ensure!(eventually(Duration::from_secs(20), is_heard), "no router is heard of");
            begin_to_forward(&ground, by_overlay)?;
            assert_eq!(ground.a.sysctl("net.ipv6.conf.all.forwarding")?, "1");
            ensure!(ways_out(&ground.a)?[0]["dev"] == "eth0", "{}", ways_out(&ground.a)?);
            // It goes on being heard. Where there is no router, nobody may become one.
            assert_eq!(ground.a.sysctl("net.ipv6.conf.eth0.accept_ra")?, "2");
            assert_eq!(ground.a.sysctl("net.ipv6.conf.br-net.accept_ra")?, "1");
            Ok(())
        });
    }
}

/// As when a host begins: it forwards before its router says anything.
#[test]
fn a_host_that_forwards_hears_a_router_that_it_did_not_know() {
    for backend in [json!({"backend": "host-gw"}), json!({"backend": "vxlan", "vni": "4096"})] {
        run(|world| {
            let (ground, desired) = (Ground::new(world)?, Cluster::new(backend.clone())?.desired()?);
            for line in LINKS_TO_CONTAINERS {
                ground.a.ip(line)?;
            }
            ground.a.ip("route add default via 192.0.2.2 dev eth0")?;
            ground.settling(async |overlays| {
                overlays.underlay(None).await?;
                ensure!(overlays.settle(&desired).await?.failures.is_empty(), "it is refused");
                // Who sets it back later has lost as little as who set it before.
                ground.a.set_sysctl("net.ipv6.conf.eth0.accept_ra", "1")?;
                overlays.settle(&desired).await.map(drop)?;
                Ok(())
            })?;
            assert_eq!(ground.a.sysctl("net.ipv6.conf.all.forwarding")?, "1");
            let is_heard =
                || advertise(&ground.b).is_ok() && ways_out(&ground.a).is_ok_and(|ways| ways != json!([]));
            ensure!(eventually(Duration::from_secs(20), is_heard), "no router is heard of");
            ensure!(ways_out(&ground.a)?[0]["dev"] == "eth0", "{}", ways_out(&ground.a)?);
            for link in ["br-net", "port", "free", "marked"] {
                assert_eq!(ground.a.sysctl(&format!("net.ipv6.conf.{link}.accept_ra"))?, "1", "{link}");
            }
            Ok(())
        });
    }
}
