//! `vrf` on the kernel that is here. Most kernels for virtual machines are built without VRFs: there an ADD says what
//! is missing and changes nothing. What it does where there are VRFs is tested in the VM tier.

use anyhow::ensure;
use netns_fixtures::{Call, Host, run};
use serde_json::{Value, json};
use zeugma_tests::bin_dir;
use zeugma_tests::stage::{Stage, bridge, network, object, refusal};

/// Whether this kernel has VRFs, asked by making one somewhere else.
fn has_vrfs(elsewhere: &Host) -> bool {
    elsewhere.ip("link add probe type vrf table 1").is_ok()
}

fn vrf() -> Value {
    json!({"type": "vrf", "vrfname": "blue"})
}

#[test]
fn add_works_or_names_the_kernel_option_and_changes_nothing() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (plain, container) = (network("net", &[bridge(0)])?, stage.container()?);
        let previous = plain.add(&stage.host, &container)?;
        let before = (stage.residue()?, container.container().residue()?);
        let config = plain.config(&stage.host, &object(&vrf()), Some(&container), Some(&previous));
        let added = Call::new(bin_dir(), "vrf", "ADD", &config).of(&container).run(&stage.host);
        if has_vrfs(&stage.client) {
            ensure!(added? == previous, "the result is not the one before");
            return Ok(());
        }
        let error = refusal(added);
        ensure!(error.code == 115 && error.msg.contains("CONFIG_NET_VRF"), "{error}");
        container.container().ensure_unchanged(&before.1)?;
        stage.ensure_unchanged(&before.0)
    });
}

#[test]
fn status_says_whether_add_would_work() {
    run(|world| {
        let stage = Stage::new(world)?;
        let before = stage.host.residue()?;
        let status = network("net", &[vrf()])?.status(&stage.host);
        stage.host.ensure_unchanged(&before)?;
        if has_vrfs(&stage.client) {
            return status;
        }
        let error = refusal(status);
        ensure!(error.code == 50 && error.msg.contains("CONFIG_NET_VRF"), "{error}");
        Ok(())
    });
}

#[test]
fn del_needs_neither_vrf_nor_namespace() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (chain, container) = (network("net", &[vrf()])?, stage.container()?);
        chain.del(&stage.host, &container)?;
        container.container().remove()?;
        chain.del(&stage.host, &container)?;
        ensure!(!container.container().path().exists(), "DEL made a file");
        chain.del(&stage.host, &container.without_netns())?;
        chain.gc(&stage.host, &[])
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (plain, container) = (network("net", &[bridge(0)])?, stage.container()?);
        let previous = plain.add(&stage.host, &container)?;
        for (keys, code, word) in [
            (json!({"type": "vrf"}), 7, "vrfname"),
            (json!({"type": "vrf", "vrfname": "much-too-long-for-a-link"}), 7, "much-too-long"),
            (json!({"type": "vrf", "vrfname": "blue", "table": -1}), 7, "-1"),
            (json!({"type": "vrf", "vrfname": "lo"}), 122, "no VRF"),
        ] {
            let config = plain.config(&stage.host, &object(&keys), Some(&container), Some(&previous));
            let error = refusal(Call::new(bin_dir(), "vrf", "ADD", &config).of(&container).run(&stage.host));
            ensure!(error.code == code && error.msg.contains(word), "{error}");
        }
        Ok(())
    });
}
