//! `zeugma-cni --purge` clears the host of us, and only when no container needs us any more.

use anyhow::{Result, ensure};
use netns_fixtures::run;
use zeugma_tests::bin_dir;
use zeugma_tests::stage::{Stage, bridge, network, portmap};

/// Whether it was carried out.
fn purge(stage: &Stage<'_>) -> bool {
    let executable = bin_dir().join("zeugma-cni");
    let command = stage.host.command(&executable).args(["--purge"]);
    command.env("ZEUGMA_RUN_DIR", stage.host.run_dir()).run().is_ok()
}

#[test]
fn purge_waits_for_the_last_container_and_leaves_the_tables_of_others() {
    run(|world| -> Result<()> {
        let stage = Stage::new(world)?;
        let chain = network("net", &[bridge(0), portmap()])?;
        let container = stage.publishing(&["8080:80"])?;
        stage.host.nft("add table ip others")?;
        chain.add(&stage.host, &container)?;
        ensure!(!purge(&stage), "it was carried out with a container attached");
        chain.check(&stage.host, &container)?;
        chain.del(&stage.host, &container)?;
        ensure!(purge(&stage), "it was refused though no container is left");
        let ruleset = stage.host.nft_ruleset()?;
        ensure!(!ruleset.contains("zeugma") && ruleset.contains("others"), "{ruleset}");
        ensure!(!stage.host.run_dir().exists(), "the run directory is still there");
        ensure!(stage.host.ip("link show type bridge")?.stdout.is_empty(), "a bridge of ours is still there");
        Ok(())
    });
}
