//! `zeugma wg` and the kernel's WireGuard understand each other.

use anyhow::ensure;
use netns_fixtures::{eventually, run};
use zeugma_tests::wireguard::{By, MTU, SOON, ends, sample, transfer};

fn check(outside: u8) {
    run(|world| {
        let (a, b) = ends(world, outside, By::Kernel)?;
        ensure!(eventually(SOON, || a.pings("10.7.0.2", 56)), "{}", a.wg("show")?);
        ensure!(a.pings("10.7.0.2", MTU - 28) && b.pings("fd07::1", MTU - 48), "a packet of full size");
        let bytes = sample(8 << 20);
        transfer(&a.host, &b.host, "10.7.0.2", &bytes, || Ok(()))?;
        transfer(&b.host, &a.host, "fd07::1", &bytes, || Ok(()))
    });
}

#[test]
fn streams_pass_between_user_space_and_kernel_inside_ipv4() {
    check(4);
}

#[test]
fn streams_pass_between_user_space_and_kernel_inside_ipv6() {
    check(6);
}

#[test]
fn the_kernel_s_end_follows_a_process_that_was_killed() {
    run(|world| {
        let (mut a, b) = ends(world, 4, By::Kernel)?;
        ensure!(eventually(SOON, || b.pings("10.7.0.1", 56)), "no way at first");
        let (from, to) = (b.host.clone(), a.host.clone());
        transfer(&from, &to, "10.7.0.1", &sample(8 << 20), || a.start())
    });
}
