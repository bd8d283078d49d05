//! `zeugma wg`: WireGuard in user space, two ends of it on a veth, configured by wg(8) alone. Its other end is the
//! kernel's own in tests/vm.

use anyhow::ensure;
use netns_fixtures::{eventually, run};
use zeugma_tests::wireguard::{By, MTU, SOON, dropped, ends, sample, transfer};

fn carries_everything(outside: u8) {
    run(|world| {
        let (a, b) = ends(world, outside, By::Userspace)?;
        ensure!(eventually(SOON, || a.pings("10.7.0.2", 56)), "{:?}", a.process.map(|process| process.log()));
        ensure!(a.pings("10.7.0.2", MTU - 28) && b.pings("fd07::1", MTU - 48), "a packet of full size");
        let bytes = sample(24 << 20);
        transfer(&a.host, &b.host, "10.7.0.2", &bytes, || Ok(()))?;
        transfer(&b.host, &a.host, "fd07::1", &bytes, || Ok(()))?;
        ensure!(dropped(&a)? + dropped(&b)? == 0, "packets were lost at the device");
        let shown = a.wg("show")?;
        ensure!(shown.contains("latest handshake") && shown.contains(" MiB received"), "{shown}");
        Ok(())
    });
}

#[test]
fn both_families_pass_inside_ipv4() {
    carries_everything(4);
}

#[test]
fn both_families_pass_inside_ipv6() {
    carries_everything(6);
}

#[test]
fn a_flow_goes_on_past_an_underlay_without_offloads() {
    run(|world| {
        let (a, b) = ends(world, 4, By::Userspace)?;
        for end in [&a, &b] {
            let off = ["ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off", "tx", "off"];
            end.host.run(off)?;
        }
        transfer(&a.host, &b.host, "10.7.0.2", &sample(8 << 20), || Ok(()))
    });
}

#[test]
fn a_flow_goes_on_when_the_process_is_killed_and_started_again() {
    run(|world| {
        let (mut a, b) = ends(world, 4, By::Userspace)?;
        let (sender, receiver) = (a.host.clone(), b.host.clone());
        transfer(&sender, &receiver, "10.7.0.2", &sample(16 << 20), || a.start())?;
        let mode = a.host.run([
            "stat",
            "-c",
            "%a",
            "/run/zeugma/wireguard/wg-a.conf",
            "/run/wireguard/wg-a.sock",
        ])?;
        ensure!(mode.stdout == "600\n600\n", "{}", mode.stdout);
        Ok(())
    });
}

#[test]
fn a_peer_that_moves_is_followed() {
    run(|world| {
        let (a, b) = ends(world, 4, By::Userspace)?;
        ensure!(eventually(SOON, || a.pings("10.7.0.2", 56)), "no way at first");
        b.host.ip("addr del 192.0.2.2/24 dev eth0")?;
        b.host.ip("addr add 192.0.2.99/24 dev eth0")?;
        ensure!(eventually(SOON, || b.pings("10.7.0.1", 56)), "the one who moved finds nobody");
        let shown = a.wg("show")?;
        ensure!(shown.contains("endpoint: 192.0.2.99:51820") && a.pings("10.7.0.2", 56), "{shown}");
        Ok(())
    });
}

#[test]
fn nothing_leaves_in_clear_while_the_process_is_dead() {
    run(|world| {
        let (mut a, b) = ends(world, 4, By::Userspace)?;
        ensure!(eventually(SOON, || a.pings("10.7.0.2", 56)), "no way at first");
        // The route of a host that would gladly forward everything.
        a.host.ip("route add default via 192.0.2.2")?;
        let tcpdump = ["tcpdump", "-n", "-l", "-i", "eth0", "-p", "--immediate-mode", "icmp or icmp6"];
        let capture = b.host.spawn(tcpdump)?;
        ensure!(eventually(SOON, || capture.log().contains("listening")), "{}", capture.log());
        a.process = None;
        ensure!(!a.pings("10.7.0.2", 77) && !a.pings("fd07::2", 77), "who answered?");
        // The capture works: what may pass in clear is in it.
        ensure!(
            a.pings("192.0.2.2", 33) && eventually(SOON, || capture.log().contains("length 41")),
            "no capture"
        );
        ensure!(!capture.log().contains("10.7.0") && !capture.log().contains("fd07::"), "{}", capture.log());
        a.start()?;
        ensure!(eventually(SOON, || a.pings("10.7.0.2", 56)), "no way again");
        Ok(())
    });
}
