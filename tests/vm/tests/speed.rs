//! How long ADD of ipvlan takes, ours and the reference's in turn, on a kernel that has ipvlan. Nothing is demanded of
//! the figures: `cargo xtask bench cni` reads them from the lines that begin with `BENCH`.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use netns_fixtures::{Chain, run};
use serde_json::json;
use zeugma_tests::bin_dir;
use zeugma_tests::stage::Stage;

/// Enough for a median; each takes a tenth of a second on an emulated processor.
const ROUNDS: usize = 25;

fn chain(dir: &Path, name: &str) -> Result<Chain> {
    let ipam = json!({"type": "host-local", "subnet": "10.90.0.0/16", "routes": [{"dst": "0.0.0.0/0"}]});
    let plugin = json!({"type": "ipvlan", "master": "eth0", "ipam": ipam});
    Chain::new(dir, json!({"cniVersion": "1.0.0", "name": name, "plugins": [plugin]}))
}

#[test]
fn ipvlan_add_beside_the_reference() {
    run(|world| {
        let stage = Stage::new(world)?;
        let container = stage.container()?;
        let makers = [("ours", bin_dir()), ("reference", Path::new("/reference"))];
        let chains = makers.map(|(name, dir)| (name, chain(dir, name)));
        for _ in 0..ROUNDS {
            for (name, chain) in &chains {
                let chain = chain.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
                let start = Instant::now();
                chain.add(&stage.host, &container)?;
                println!("BENCH ipvlan_add {name} {:.3}", start.elapsed().as_secs_f64() * 1e3);
                chain.del(&stage.host, &container)?;
            }
        }
        Ok(())
    });
}
