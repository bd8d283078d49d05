//! Promises of the protocol: VERSION, the about line, error codes, result shapes.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::rig::{Plugin, Rig, SUBNET, VERSION, address, bridge};
use super::shape::ensure_shape;
use super::{Kept, Promise};

pub(super) const PROMISES: &[Promise] = &[
    Promise { name: "VERSION lists the versions it speaks", plugins: Plugin::ALL, test: version },
    Promise { name: "without CNI_COMMAND: about line on stderr", plugins: Plugin::ALL, test: about },
    Promise { name: "results have the shape of each cniVersion", plugins: Plugin::ALL, test: shapes },
    Promise { name: "chained: the previous result is passed on", plugins: Plugin::CHAINED, test: passed_on },
    Promise { name: "code 1: unknown cniVersion", plugins: Plugin::ALL, test: unknown_version },
    Promise {
        name: "code 1: CHECK before 0.4.0, GC, STATUS before 1.1.0",
        plugins: Plugin::ALL,
        test: verbs_too_new,
    },
    Promise { name: "code 4: environment missing or malformed", plugins: Plugin::ALL, test: bad_environment },
    Promise { name: "code 6: stdin is no JSON", plugins: Plugin::ALL, test: bad_json },
    Promise { name: "code 7: network name missing or malformed", plugins: Plugin::ALL, test: bad_name },
];

fn version(rig: &Rig<'_>) -> Result<Kept> {
    let call = rig.call_with("VERSION", &rig.container()?, &json!({"cniVersion": VERSION}));
    let answer = call.run(&rig.host)?;
    let newest = answer["cniVersion"].as_str().context("no cniVersion")?;
    ensure!(rig.speaks(newest), "cniVersion {newest} is not among supportedVersions {:?}", rig.versions);
    for needed in ["0.4.0", "1.0.0"] {
        ensure!(rig.speaks(needed), "does not speak {needed}: {:?}", rig.versions);
    }
    Ok(Kept::Yes)
}

fn about(rig: &Rig<'_>) -> Result<Kept> {
    let call = rig.call_with("ADD", &rig.container()?, &Value::Null).without("CNI_COMMAND");
    let finished = call.output(&rig.host)?.finished;
    ensure!(finished.status.success(), "{}", finished.status);
    ensure!(finished.stdout.is_empty(), "stdout is the protocol's, but: {}", finished.stdout);
    ensure!(finished.stderr.contains(rig.plugin.name()), "stderr does not name it: {}", finished.stderr);
    Ok(Kept::Yes)
}

fn shapes(rig: &Rig<'_>) -> Result<Kept> {
    for version in &rig.versions {
        // Before 0.3.0 there is no prevResult to pass on.
        if rig.plugin.is_chained() && version.as_str() < "0.3.0" {
            continue;
        }
        let container = rig.container()?;
        let chain = rig.chain_of(version, rig.config())?;
        let result = chain.add(&rig.host, &container).with_context(|| format!("ADD in {version}"))?;
        ensure_shape(&result, version, rig.plugin, &container)?;
        chain.del(&rig.host, &container).with_context(|| format!("DEL in {version}"))?;
    }
    Ok(Kept::Yes)
}

fn passed_on(rig: &Rig<'_>) -> Result<Kept> {
    let container = rig.container()?;
    let before = rig.list_of(VERSION, vec![bridge("cni0", SUBNET)])?;
    let previous = before.add(&rig.host, &container)?;
    address(&previous).context("the bridge's result")?;
    let result = rig.call_after("ADD", &container, VERSION, &previous).run(&rig.host)?;
    // Whom the container asks is what the resolver is for.
    let keys =
        if rig.plugin == Plugin::Resolver { &["ips", "routes"][..] } else { &["ips", "routes", "dns"] };
    for key in keys.iter().copied() {
        let same = result[key] == previous[key] || (is_empty(&result[key]) && is_empty(&previous[key]));
        ensure!(same, "{key} was {} and is {}", previous[key], result[key]);
    }
    let names = |result: &Value| -> Vec<Value> {
        let interfaces = result["interfaces"].as_array().cloned().unwrap_or_default();
        interfaces.iter().map(|interface| interface["name"].clone()).collect()
    };
    // What leaves the container passes a link of its own.
    let own = usize::from(rig.plugin == Plugin::Bandwidth);
    let (before, after) = (names(&previous), names(&result));
    ensure!(
        after.starts_with(&before) && after.len() == before.len() + own,
        "interfaces were {} and are {}",
        previous["interfaces"],
        result["interfaces"]
    );
    Ok(Kept::Yes)
}

/// Absent, `[]` and `{}` say the same.
fn is_empty(value: &Value) -> bool {
    value.is_null() || value == &json!([]) || value == &json!({})
}

fn unknown_version(rig: &Rig<'_>) -> Result<Kept> {
    let container = rig.container()?;
    let mut config = rig.complete(&container, VERSION, &Value::Null);
    config["cniVersion"] = json!("9.9.9");
    rig.ensure_refused(rig.call_with("ADD", &container, &config), 1, "cniVersion 9.9.9")?;
    Ok(Kept::Yes)
}

fn verbs_too_new(rig: &Rig<'_>) -> Result<Kept> {
    let container = rig.container()?;
    if rig.speaks("0.3.1") {
        rig.ensure_refused(rig.call_after("CHECK", &container, "0.3.1", &Value::Null), 1, "CHECK in 0.3.1")?;
    }
    if rig.speaks("1.1.0") {
        for verb in ["GC", "STATUS"] {
            rig.ensure_refused(rig.call_after(verb, &container, VERSION, &Value::Null), 1, verb)?;
        }
    } else if !rig.speaks("0.3.1") {
        return Ok(Kept::NotClaimed("speaks neither 0.3.1 nor 1.1.0"));
    }
    Ok(Kept::Yes)
}

fn bad_environment(rig: &Rig<'_>) -> Result<Kept> {
    let container = rig.container()?;
    let call = || rig.call_after("ADD", &container, VERSION, &Value::Null);
    for key in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"] {
        rig.ensure_refused(call().without(key), 4, &format!("ADD without {key}"))?;
    }
    let malformed = [
        ("CNI_CONTAINERID", "../etc"),
        ("CNI_IFNAME", "sixteen-letters-"),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", ".."),
        ("CNI_COMMAND", "FROB"),
    ];
    for (key, value) in malformed {
        rig.ensure_refused(call().env(key, value), 4, &format!("{key}={value}"))?;
    }
    Ok(Kept::Yes)
}

fn bad_json(rig: &Rig<'_>) -> Result<Kept> {
    let call = rig.call_after("ADD", &rig.container()?, VERSION, &Value::Null);
    rig.ensure_refused(call.stdin("{\"name\": "), 6, "half an object")?;
    Ok(Kept::Yes)
}

fn bad_name(rig: &Rig<'_>) -> Result<Kept> {
    let container = rig.container()?;
    for name in [json!(""), json!("../net"), json!("a b")] {
        let mut config = rig.complete(&container, VERSION, &Value::Null);
        config["name"] = name.clone();
        rig.ensure_refused(rig.call_with("ADD", &container, &config), 7, &format!("name {name}"))?;
    }
    Ok(Kept::Yes)
}
