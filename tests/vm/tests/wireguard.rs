//! WireGuard of the kernel: one end settled by us, the other one made by hand with wg(8) and ip(8).

use anyhow::{Context, Result, ensure};
use ground::{Cluster, Ground, ensure_settled};
use netns_fixtures::{Host, run};
use serde_json::json;
use zeugma_kernel::overlay::{Wireguard, WireguardDevice, WireguardPeer};
use zeugma_model::PublicKey;
use zeugma_overlay::{Desired, Path};

#[allow(dead_code, reason = "what the other tests of overlays use of it")]
#[path = "../../../crates/kernel/tests/overlay/ground.rs"]
mod ground;

/// A private key and its public one, by wg(8).
fn keys(host: &Host) -> Result<(String, PublicKey)> {
    let private = host.run(["wg", "genkey"])?.stdout.trim().to_owned();
    let public = host.command("wg").args(["pubkey"]).stdin(private.as_str()).run()?.stdout;
    Ok((private, public.trim().parse()?))
}

/// Gives a node a key.
fn with_key(cluster: &mut Cluster, name: &str, key: PublicKey) -> Result<()> {
    let node = cluster.nodes.get_mut(&name.parse()?).context("a node")?;
    node.key = Some(key);
    Ok(())
}

/// `b` by hand: its device is up, and what leads to `a` leaves by it.
fn by_hand(ground: &Ground, private: &str, peer: PublicKey) -> Result<()> {
    ground.b.ip("link add wg0 type wireguard")?;
    let words = format!(
        "set wg0 private-key /proc/self/fd/0 listen-port 51820 peer {peer} endpoint 192.0.2.1:51820 \
         allowed-ips 10.9.1.0/24,fd00:9:0:1::/64"
    );
    ground.b.command("wg").args(words.split_whitespace()).stdin(private).run()?;
    ground.b.ip("link set wg0 up")?;
    ground.b.ip("route add 10.9.1.0/24 dev wg0")?;
    ground.b.ip("-6 route add fd00:9:0:1::/64 dev wg0").map(drop)
}

/// What the agent would tell the kernel.
fn device(desired: &Desired, private: &str) -> Result<WireguardDevice> {
    let overlay = desired.overlays.values().next().context("an overlay")?;
    let peers = overlay.peers.values().filter_map(|peer| match &peer.path {
        Path::Wireguard { key, endpoint, .. } => Some(WireguardPeer {
            key: *key,
            endpoint: Some(*endpoint),
            allowed: peer.blocks.clone(),
            keepalive: 0,
            last_handshake: None,
            received: 0,
            sent: 0,
        }),
        _ => None,
    });
    let key = private.parse::<PublicKey>()?.0;
    Ok(WireguardDevice {
        link: "wg-net".parse()?,
        private_key: Some(key),
        port: 51820,
        peers: peers.collect(),
    })
}

fn ping(ground: &Ground) -> Result<()> {
    for (from, to) in [("10.9.1.1", "10.9.2.1"), ("fd00:9:0:1::1", "fd00:9:0:2::1")] {
        ground.a.run(["ping", "-c1", "-W10", "-I", from, to])?;
        ground.b.run(["ping", "-c1", "-W10", "-I", to, from])?;
    }
    Ok(())
}

#[test]
fn the_kernel_s_wireguard_speaks_with_one_made_by_hand_and_keeps_its_sessions() {
    run(|world| {
        let (ground, mut cluster) =
            (Ground::new(world)?, Cluster::new(json!({"backend": "wireguard", "port": "51820"}))?);
        let ((our_private, ours), (their_private, theirs)) = (keys(&ground.a)?, keys(&ground.b)?);
        with_key(&mut cluster, "a", ours)?;
        with_key(&mut cluster, "b", theirs)?;
        by_hand(&ground, &their_private, ours)?;
        ground.settling(async |overlays| {
            let mut wireguard = Wireguard::open()?.context("this kernel has WireGuard")?;
            let desired = cluster.desired()?;
            let told = overlays.settle(&desired).await?;
            ensure!(told.failures.iter().any(|line| line.contains("wg-net is not there yet")), "{told:?}");
            wireguard.settle(&device(&desired, &our_private)?)?;
            ensure!(overlays.settle(&desired).await?.failures.is_empty());
            ensure_settled(&overlays.settle(&desired).await?)?;
            ping(&ground)?;
            let shown = ground.a.run(["wg", "show", "wg-net", "latest-handshakes"])?.stdout;
            cluster.join("c", 3, &["192.0.2.3"])?;
            with_key(&mut cluster, "c", keys(&ground.a)?.1)?;
            let more = cluster.desired()?;
            wireguard.settle(&device(&more, &our_private)?)?;
            overlays.settle(&more).await?;
            ping(&ground)?;
            let after = ground.a.run(["wg", "show", "wg-net", "latest-handshakes"])?.stdout;
            ensure!(after.contains(shown.trim()) && after.lines().count() == 2, "{shown} {after}");
            let seen = wireguard.device(&"wg-net".parse()?)?.context("the device")?;
            let peer = seen.peers.iter().find(|peer| peer.key == theirs).context("the peer")?;
            ensure!(peer.last_handshake.is_some() && peer.sent > 0 && peer.allowed.len() == 2, "{peer:?}");
            wireguard.settle(&WireguardDevice { peers: Vec::new(), ..device(&more, &our_private)? })?;
            ensure!(ground.a.run(["wg", "show", "wg-net", "peers"])?.stdout.trim().is_empty());
            overlays.settle(&Desired::default()).await?;
            ensure!(ground.a.ip("link show wg-net").is_err(), "the device stays");
            Ok(())
        })
    });
}

#[test]
fn a_thousand_peers_are_told_in_messages_that_the_kernel_takes_and_a_foreign_device_is_left_alone() {
    run(|world| {
        let ground = Ground::new(world)?;
        let mut cluster = Cluster::new(json!({"backend": "wireguard", "port": "51820"}))?;
        for number in 300..1300_u16 {
            cluster.join(
                &format!("n{number}"),
                number,
                &[&format!("198.51.{}.{}", number / 250, number % 250)],
            )?;
            let [high, low] = number.to_be_bytes();
            with_key(
                &mut cluster,
                &format!("n{number}"),
                PublicKey(std::array::from_fn(|at| [high, low][at % 2])),
            )?;
        }
        let (private, ours) = keys(&ground.a)?;
        with_key(&mut cluster, "a", ours)?;
        let wanted = device(&cluster.desired()?, &private)?;
        ground.a.enter(|| {
            let mut wireguard = Wireguard::open()?.context("this kernel has WireGuard")?;
            wireguard.settle(&wanted)?;
            let shown = ground.a.run(["wg", "show", "wg-net", "allowed-ips"])?.stdout;
            assert_eq!(shown.lines().filter(|line| line.split_whitespace().count() == 3).count(), 1000);
            assert_eq!(wireguard.device(&wanted.link)?.context("the device")?.peers.len(), 1000);
            ground.a.ip("link add wg-other type wireguard")?;
            let foreign = WireguardDevice { link: "wg-other".parse()?, ..wanted.clone() };
            ensure!(wireguard.settle(&foreign).is_err(), "a foreign device is changed");
            ensure!(ground.a.run(["wg", "show", "wg-other", "peers"])?.stdout.trim().is_empty());
            Ok(())
        })
    });
}
