//! `tuning`: what the kernel finds senseless is the configuration's fault and changes nothing.

use anyhow::Result;
use netns_fixtures::run;
use serde_json::{Value, json};
use zeugma_tests::stage::{Stage, bridge, network, refusal, with};

fn ensure_senseless(keys: Value) {
    run(|world| {
        let (stage, attach) = (Stage::new(world)?, network("net", &[bridge(0)])?);
        let chain = network("net", &[bridge(0), with(json!({"type": "tuning", "txQLen": 77}), keys)])?;
        attach.add(&stage.host, &stage.container()?)?;
        let (before, container) = (stage.residue()?, stage.container()?);
        let error = refusal(chain.add(&stage.host, &container));
        assert_eq!((error.plugin.as_str(), error.code), ("tuning", 7), "{error}");
        let link = container.container().ip_json("link show eth0")?;
        assert_ne!(link[0]["txqlen"], 77, "{link}");
        chain.del(&stage.host, &container)?;
        stage.ensure_unchanged(&before)
    });
}

#[test]
fn a_senseless_number_or_address_is_the_configuration_s_fault() {
    ensure_senseless(json!({"mtu": 7}));
    ensure_senseless(json!({"mac": "01:00:5e:00:00:01"}));
}

#[test]
fn a_senseless_sysctl_value_is_the_configuration_s_fault() {
    ensure_senseless(json!({"sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "sometimes"}}));
    ensure_senseless(json!({"sysctl": {"net.core.somaxconn": "-5"}}));
}

#[test]
fn a_sensible_setting_is_taken() {
    run(|world| -> Result<()> {
        let stage = Stage::new(world)?;
        let tuning = json!({"type": "tuning", "mtu": 1300, "sysctl": {"net.core.somaxconn": "99"}});
        let (chain, container) = (network("net", &[bridge(0), tuning])?, stage.container()?);
        chain.add(&stage.host, &container)?;
        assert_eq!(container.container().sysctl("net.core.somaxconn")?, "99");
        assert_eq!(container.container().ip_json("link show eth0")?[0]["mtu"], 1300);
        chain.del(&stage.host, &container)
    });
}
