//! `zeugma ps` and `zeugma dns` as a person or a script uses them; who answers names is in agent's tests.

use anyhow::{Result, ensure};
use netns_fixtures::{Finished, run};
use serde_json::{Value, json};
use zeugma_tests::bin_dir;
use zeugma_tests::stage::{Stage, bridge, network, portmap, published, with};

fn zeugma(stage: &Stage<'_>, words: &[&str]) -> Result<Finished> {
    stage.host.command(bin_dir().join("zeugma")).args(words).output()
}

#[test]
fn ps_lists_what_is_attached_and_nothing_after_del() {
    run(|world| {
        let stage = Stage::new(world)?;
        let resolver = json!({"type": "resolver", "capabilities": {"aliases": true}});
        let chain = network("net", &[bridge(0), portmap(), resolver])?;
        let told = with(published(&["192.0.2.1:8080:80"]), json!({"aliases": ["www"]}));
        let container = stage.container()?.with(told).args("K8S_POD_NAME=shop");
        let result = chain.add(&stage.host, &container)?;
        let listed: Value = serde_json::from_str(&zeugma(&stage, &["ps", "--json"])?.stdout)?;
        let expected = json!([{
            "container": "c0", "network": "net", "interface": "eth0",
            "addresses": ["10.88.0.2/24", "2001:db8:88::2/64"], "mac": result["interfaces"][2]["mac"],
            "ports": [{"address": "192.0.2.1", "host": 8080, "container": 80, "protocol": "tcp"}],
            "names": ["shop", "www"], "domain": "zeugma.internal",
        }]);
        ensure!(listed == expected, "{listed:#}");
        let table = zeugma(&stage, &["ps"])?.stdout;
        ensure!(table.lines().count() == 2 && table.contains("192.0.2.1:8080->80/tcp  shop,www"), "{table}");
        ensure!(
            zeugma(&stage, &["ps", "--network", "other"])?.stdout.lines().count() == 1,
            "others are listed"
        );
        chain.del(&stage.host, &container)?;
        ensure!(zeugma(&stage, &["ps", "--json"])?.stdout == "[]\n", "it is still listed");
        Ok(())
    });
}

#[test]
fn without_an_agent_dns_says_how_to_start_one_and_exits_with_2() {
    run(|world| {
        let stage = Stage::new(world)?;
        for words in [&["dns", "query", "web"][..], &["dns", "dump"]] {
            let asked = zeugma(&stage, words)?;
            ensure!(asked.status.code() == Some(2) && asked.stdout.is_empty(), "{asked:?}");
            ensure!(asked.stderr.contains("start it with `zeugma agent`"), "{}", asked.stderr);
        }
        Ok(())
    });
}
