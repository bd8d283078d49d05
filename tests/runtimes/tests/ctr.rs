//! Promises kept for `ctr run --cni`, which knows only `/opt/cni/bin` and `/etc/cni/net.d`.
//! nerdctl goes the same way.

use anyhow::{Result, ensure};
use zeugma_runtime_tests::*;

#[test]
fn container_has_an_address_and_a_gateway() {
    with_ctr(|node, containerd| {
        let run = ["run", "--rm", "--cni", IMAGE, "one", "sh", "-c"];
        let script = format!("ip -o address; ip route; ping -c 1 -W 5 {OUTSIDE_ADDRESS}");
        let seen = containerd.ctr(node.name(), &[&run[..], &[&script]].concat())?;
        for promise in ["inet 10.78.0.2/24", "default via 10.78.0.1 dev eth0", " 0% packet loss"] {
            ensure!(seen.contains(promise), "no {promise:?} in:\n{seen}");
        }
        Ok(())
    });
}

#[test]
fn finished_container_leaves_no_residue() {
    with_ctr(|node, containerd| {
        if !Plugins::find()?.are_ours() {
            // ctr calls DEL when the namespace is gone; the reference then leaves its masquerade rules.
            skipped("the reference plugins forget masquerade rules when the namespace is gone");
            return Ok(());
        }
        let run = |id: &str| containerd.ctr(node.name(), &["run", "--rm", "--cni", IMAGE, id, "true"]);
        run("first")?;
        eventually("the container is forgotten", || node.ensure_forgotten(&["first", "10.78.0.2"]))?;
        let before = node.residue()?;
        run("second")?;
        eventually("nothing is left", || node.ensure_restored(&before))
    });
}

fn with_ctr(test: impl FnOnce(&Node, &Containerd<'_>) -> Result<()> + Send) {
    if skip_without(&["containerd", "ctr", "containerd-shim-runc-v2"]) {
        return;
    }
    Node::run(|node| test(node, &Containerd::start(node, &conflist("single", "single0", "10.78.0.0/24"))?));
}
