//! DEL and GC of one attachment leave those of others alone, however alike they look: in a namespace that got the number
//! of one that is gone, in the same namespace under another container ID, and interfaces that are nobody's.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Result, ensure};
use netns_fixtures::{Attachment, Chain, run};
use serde_json::{Value, json};
use zeugma_tests::stage::{Stage, bridge, network, refusal};

/// The plugins whose interface a DEL finds by its name in the container.
fn networks() -> Result<Vec<Chain>> {
    let ipam = json!({"type": "host-local", "subnet": "10.77.0.0/24"});
    let plugins = [
        bridge(0),
        json!({"type": "ptp", "ipam": ipam}),
        json!({"type": "macvlan", "master": "eth0", "ipam": ipam}),
        json!({"type": "tap", "ipam": ipam}),
    ];
    plugins.into_iter().map(|plugin| network("net", &[plugin])).collect()
}

fn has_eth0(container: &Attachment) -> bool {
    container.container().ip("link show eth0").is_ok()
}

#[test]
fn del_of_another_container_id_in_the_same_namespace_takes_nothing() {
    run(|world| {
        let stage = Stage::new(world)?;
        for chain in networks()? {
            let container = stage.container()?;
            chain.add(&stage.host, &container)?;
            let other = container.container().attachment("other", "eth0");
            refusal(chain.add(&stage.host, &other));
            chain.del(&stage.host, &other)?;
            ensure!(has_eth0(&container), "DEL of another ID took {:?}", chain);
            chain.check(&stage.host, &container)?;
            chain.del(&stage.host, &container)?;
        }
        Ok(())
    });
}

#[test]
fn del_after_a_refused_add_leaves_the_interface_that_was_there() {
    run(|world| {
        let stage = Stage::new(world)?;
        for chain in networks()? {
            let container = stage.container()?;
            container.container().ip("link add eth0 type veth peer name inner")?;
            refusal(chain.add(&stage.host, &container));
            chain.del(&stage.host, &container)?;
            ensure!(has_eth0(&container), "DEL took somebody's eth0: {chain:?}");
        }
        Ok(())
    });
}

/// The kernel gives inode numbers of namespaces again at once. Here the record is changed to what it would then say.
fn renumber(stage: &Stage<'_>, lost: &Attachment, inode: u64) -> Result<()> {
    let dir = stage.host.run_dir().join("attachments/net").join(lost.id()).join("eth0");
    for entry in fs::read_dir(dir)? {
        let file = entry?.path();
        let mut record: Value = serde_json::from_slice(&fs::read(&file)?)?;
        record["netns"]["inode"] = json!(inode);
        fs::write(file, record.to_string())?;
    }
    Ok(())
}

#[test]
fn gc_leaves_a_namespace_alone_that_got_the_number_of_one_that_is_gone() {
    run(|world| {
        let stage = Stage::new(world)?;
        for chain in networks()? {
            let lost = stage.container()?;
            chain.add(&stage.host, &lost)?;
            lost.container().remove()?;
            let fresh = world.container(lost.id())?.attachment("fresh", "eth0");
            renumber(&stage, &lost, fs::metadata(fresh.container().path())?.ino())?;
            chain.add(&stage.host, &fresh)?;
            chain.gc(&stage.host, &[&fresh])?;
            ensure!(has_eth0(&fresh), "GC took the eth0 of a valid attachment: {chain:?}");
            chain.del(&stage.host, &fresh)?;
        }
        Ok(())
    });
}

#[test]
fn a_refused_network_leaves_the_reference_s_interface_of_another() {
    run(|world| {
        let stage = Stage::new(world)?;
        let plugins = [json!({"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.78.0.0/24"}})];
        let conflist = |name: &str| json!({"cniVersion": "1.0.0", "name": name, "plugins": plugins});
        let (theirs, ours): (Chain, Value) =
            (Chain::new("/usr/lib/cni", conflist("theirs"))?, conflist("ours"));
        let container = stage.container()?;
        theirs.add(&stage.host, &container)?;
        let ours = Chain::new(zeugma_tests::bin_dir(), ours)?;
        refusal(ours.add(&stage.host, &container));
        ours.del(&stage.host, &container)?;
        ensure!(has_eth0(&container), "DEL took the reference's eth0");
        Ok(())
    });
}
