//! Configurations: what is read, what is tolerated, what is refused with which code.

use serde::Deserialize;
use serde_json::json;
use zeugma_model::{ContainerId, IfName};
use zeugma_protocol::{CniCode, Code, NetConf, Version};

#[track_caller]
fn parse(config: serde_json::Value) -> NetConf {
    NetConf::parse(config.to_string().as_bytes()).unwrap()
}

/// `config` is refused with `code`, and the message or details contain `word`.
#[track_caller]
fn check_refused(config: &str, code: Code, word: &str) {
    let error = NetConf::parse(config.as_bytes()).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    let text = format!("{error} {}", error.details());
    assert!(text.contains(word), "{text}");
}

fn attachment(container: &str, ifname: &str) -> (ContainerId, IfName) {
    (container.parse().unwrap(), ifname.parse().unwrap())
}

#[test]
fn c1_03_undecodable_is_6() {
    check_refused("", Code::DecodingFailure, "no JSON object");
    check_refused("{", Code::DecodingFailure, "no JSON object");
    check_refused("[]", Code::DecodingFailure, "no JSON object");
}

#[test]
fn c1_03_a_wrong_type_is_6_and_names_the_key() {
    for (config, key) in [
        (r#"{"name": 1}"#, "name"),
        (r#"{"name": "n", "cniVersion": 1}"#, "cniVersion"),
        (r#"{"name": "n", "type": []}"#, "type"),
        (r#"{"name": "n", "ipam": "host-local"}"#, "ipam"),
        (r#"{"name": "n", "ipam": {"type": 1}}"#, "ipam.type"),
        (r#"{"name": "n", "dns": {"nameservers": [1]}}"#, "dns.nameservers[0]"),
        (r#"{"name": "n", "args": {"cni": 1}}"#, "args.cni"),
        (r#"{"name": "n", "runtimeConfig": 1}"#, "runtimeConfig"),
        (r#"{"name": "n", "cniVersion": "1.0.0", "prevResult": {"ips": [{}]}}"#, "prevResult.ips[0]"),
        (r#"{"name": "n", "prevResult": []}"#, "prevResult"),
        (
            r#"{"name": "n", "cni.dev/attachments": [{"containerID": "-", "ifname": "e"}]}"#,
            "cni.dev/attachments[0].containerID",
        ),
    ] {
        check_refused(config, Code::DecodingFailure, &format!("{key:?}"));
    }
}

#[test]
fn c1_03_a_missing_or_invalid_name_is_7() {
    for config in ["{}", r#"{"name": ""}"#, r#"{"name": null}"#] {
        check_refused(config, Code::InvalidNetworkConfig, "missing network name");
    }
    check_refused(
        r#"{"name": "a/b"}"#,
        Code::InvalidNetworkConfig,
        "invalid characters found in network name",
    );
}

#[test]
fn c1_03_an_unknown_version_is_1() {
    let config = r#"{"name": "n", "cniVersion": "1.2.0"}"#;
    check_refused(config, Code::IncompatibleVersion, "incompatible CNI versions");
    check_refused(
        config,
        Code::IncompatibleVersion,
        r#"config is "1.2.0", plugin supports ["0.1.0" "0.2.0""#,
    );
}

#[test]
fn a_missing_version_is_0_1_0() {
    assert_eq!(parse(json!({ "name": "n" })).cni_version, Version::V0_1_0);
    assert_eq!(parse(json!({ "name": "n", "cniVersion": "" })).cni_version, Version::V0_1_0);
}

#[test]
fn c1_04_unknown_and_reserved_keys_are_tolerated() {
    let conf = parse(
        json!({ "name": "n", "mine": 1, "cni.dev/x": {}, "runtimeConfig": { "x": 1 }, "args": { "x": 1 } }),
    );
    assert_eq!(conf.raw["mine"], 1);
}

#[test]
fn an_ipam_without_type_is_none() {
    for ipam in [json!(null), json!({}), json!({ "type": "" }), json!({ "subnet": "10.0.0.0/8" })] {
        assert_eq!(parse(json!({ "name": "n", "ipam": ipam })).ipam, None);
    }
    assert!(parse(json!({ "name": "n", "ipam": { "type": "static" } })).ipam.is_some());
}

#[test]
fn c1_13_prev_result_is_read_in_its_own_version() {
    let old = json!({ "cniVersion": "0.2.0", "ip4": { "ip": "10.1.2.3/24" } });
    let conf = parse(json!({ "name": "n", "cniVersion": "1.0.0", "prevResult": old }));
    assert_eq!(conf.prev_result.unwrap().ips[0].address.to_string(), "10.1.2.3/24");
    let new = json!({ "ips": [{ "address": "10.1.2.3/24" }] });
    let conf = parse(json!({ "name": "n", "cniVersion": "1.0.0", "prevResult": new }));
    assert_eq!(conf.prev_result.unwrap().ips.len(), 1);
}

#[test]
fn c1_17_del_tolerates_an_unreadable_prev_result() {
    let config = br#"{"name": "n", "cniVersion": "1.0.0", "prevResult": {"cniVersion": "9.9.9", "ips": 1}}"#;
    assert!(NetConf::parse(config).is_err());
    assert_eq!(NetConf::parse_for_del(config).unwrap().prev_result, None);
}

#[test]
fn c1_25_both_gc_keys_are_read() {
    let list = json!([{ "containerID": "one", "ifname": "eth0" }]);
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let conf = parse(json!({ "name": "n", key: list }));
        assert_eq!(conf.valid_attachments, Some(vec![attachment("one", "eth0")]), "{key}");
    }
}

#[test]
fn c1_25_the_newer_gc_key_wins() {
    let conf = parse(json!({
        "name": "n",
        "cni.dev/valid-attachments": [{ "containerID": "new", "ifname": "eth0" }],
        "cni.dev/attachments": [],
    }));
    assert_eq!(conf.valid_attachments, Some(vec![attachment("new", "eth0")]));
}

#[test]
fn c1_25_no_key_is_no_list_and_null_an_empty_one() {
    assert_eq!(parse(json!({ "name": "n" })).valid_attachments, None);
    assert_eq!(
        parse(json!({ "name": "n", "cni.dev/valid-attachments": null })).valid_attachments,
        Some(vec![])
    );
}

#[test]
fn a_mesos_configuration_is_read() {
    let conf = parse(json!({
        "name": "net1", "type": "bridge", "ipam": { "type": "host-local", "subnet": "192.168.0.0/16" },
        "args": { "org.apache.mesos": { "network_info": { "name": "net1", "port_mappings": [{ "host_port": 80, "container_port": 8080 }] } } },
    }));
    assert_eq!((conf.cni_version, conf.plugin_type.as_str()), (Version::V0_1_0, "bridge"));
    assert!(conf.args_cni.is_empty());
    assert_eq!(conf.raw["args"]["org.apache.mesos"]["network_info"]["name"], "net1");
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Own {
    is_gateway: bool,
}

#[test]
fn a_plugin_reads_its_own_keys() {
    let own = |value| parse(json!({ "name": "n", "isGateway": value })).plugin_config::<Own>();
    assert_eq!(own(json!(true)).unwrap(), Own { is_gateway: true });
    let error = own(json!("yes")).unwrap_err();
    assert_eq!(error.code(), Code::DecodingFailure);
    assert!(error.to_string().contains(r#"key "isGateway""#), "{error}");
}

#[test]
fn the_case_of_keys_does_not_matter_and_the_documented_spelling_wins() {
    let conf = parse(json!({
        "NAME": "n", "cniversion": "1.0.0", "Type": "bridge", "IPAM": { "TYPE": "static" }, "isgateway": true,
        "RuntimeConfig": { "MAC": "m" }, "ARGS": { "CNI": { "IPS": ["10.0.0.1"] } },
        "prevresult": { "IPS": [{ "Address": "10.0.0.1/24" }] },
    }));
    assert_eq!(
        (conf.name.as_str(), conf.cni_version, conf.plugin_type.as_str()),
        ("n", Version::V1_0_0, "bridge")
    );
    assert_eq!(conf.ipam_type(), Some("static"));
    assert_eq!(conf.plugin_config::<Own>().unwrap(), Own { is_gateway: true });
    assert_eq!(conf.capability::<String>("mac").unwrap().as_deref(), Some("m"));
    assert_eq!(conf.arg_cni::<Vec<String>>("ips").unwrap(), Some(vec!["10.0.0.1".into()]));
    assert_eq!(conf.prev_result.unwrap().ips.len(), 1);
    let both = parse(json!({ "name": "n", "ISGATEWAY": 1, "isGateway": true, "isgateway": 1 }));
    assert_eq!(both.plugin_config::<Own>().unwrap(), Own { is_gateway: true });
}

#[test]
fn an_error_names_the_documented_key() {
    let error = parse(json!({ "name": "n", "ISGATEWAY": 1 })).plugin_config::<Own>().unwrap_err().to_string();
    assert!(error.contains(r#"key "isGateway""#), "{error}");
}

#[test]
fn c2_capabilities_come_from_runtime_config() {
    let conf =
        parse(json!({ "name": "n", "runtimeConfig": { "mac": "02:00:00:00:00:01", "ips": [1], "x": null } }));
    assert_eq!(conf.capability::<String>("mac").unwrap().as_deref(), Some("02:00:00:00:00:01"));
    assert_eq!(conf.capability::<String>("absent").unwrap(), None);
    assert_eq!(conf.capability::<String>("x").unwrap(), None);
    let error = conf.capability::<Vec<String>>("ips").unwrap_err().to_string();
    assert!(error.contains("runtimeConfig.ips[0]"), "{error}");
}

#[test]
fn c2_arguments_come_from_args_cni() {
    let conf = parse(
        json!({ "name": "n", "args": { "cni": { "ips": ["10.0.0.1"], "labels": [{ "key": "a", "value": "b" }] } } }),
    );
    assert_eq!(conf.arg_cni::<Vec<String>>("ips").unwrap(), Some(vec!["10.0.0.1".into()]));
    let error = conf.arg_cni::<Vec<String>>("labels").unwrap_err().to_string();
    assert!(error.contains("args.cni.labels[0]"), "{error}");
}
