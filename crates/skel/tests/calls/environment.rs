//! The rules for the variables, with the reference's messages.

use serde_json::json;
use zeugma_skel::{Env, respond};

use crate::plugin::{Noting, check_refused, conf, env, stdout};

fn only(command: &str) -> Env {
    Env { command: command.into(), ..Env::default() }
}

#[test]
fn c1_02_missing_variables_are_4_and_named_in_order() {
    for (command, missing) in [
        ("ADD", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"),
        ("CHECK", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"),
        ("DEL", "CNI_CONTAINERID,CNI_IFNAME,CNI_PATH"),
        ("GC", "CNI_PATH"),
        ("STATUS", "CNI_PATH"),
    ] {
        let msg = format!("required env variables [{missing}] missing");
        check_refused(&only(command), &conf("1.1.0"), json!({ "code": 4, "msg": msg }));
    }
}

#[test]
fn c1_02_an_unknown_verb_is_4() {
    let msg = "unknown CNI_COMMAND: add: there are ADD, DEL, CHECK, GC, STATUS and VERSION";
    check_refused(&env("add"), &conf("1.0.0"), json!({ "code": 4, "msg": msg }));
}

#[test]
fn c1_02_invalid_names_are_4() {
    for (bad, begin) in [
        (Env { container: "a/b".into(), ..env("ADD") }, "invalid characters in containerID"),
        (Env { ifname: "a".repeat(16), ..env("DEL") }, "interface name is too long"),
        (Env { ifname: "..".into(), ..env("ADD") }, "interface name is . or .."),
        (Env { ifname: "a b".into(), ..env("CHECK") }, "interface name contains / or : or whitespace"),
        (Env { args: "IP".into(), ..env("ADD") }, "CNI_ARGS: invalid pair \"IP\""),
        (Env { args: "IgnoreUnknown=x".into(), ..env("ADD") }, "CNI_ARGS: IgnoreUnknown"),
    ] {
        let answer = respond(&bad, conf("1.0.0").as_bytes(), &Noting::default());
        let answer = stdout(&answer);
        assert_eq!(answer["code"], 4);
        assert!(answer["msg"].as_str().unwrap().starts_with(begin), "{answer}");
    }
}

#[test]
fn an_invalid_name_is_reported_before_missing_variables() {
    let bad = Env { container: "-".into(), ..only("ADD") };
    let answer = stdout(&respond(&bad, b"", &Noting::default()));
    assert!(answer["msg"].as_str().unwrap().contains("containerID"), "{answer}");
}

#[test]
fn arguments_of_others_are_no_error() {
    let args = "MAC=02:00:00:00:00:01;K8S_POD_NAME=web";
    let response =
        respond(&Env { args: args.into(), ..env("ADD") }, conf("1.0.0").as_bytes(), &Noting::default());
    assert_eq!(response.exit, 0);
}

#[test]
fn c1_18_del_needs_no_namespace_and_tolerates_malformed_arguments() {
    let plugin = Noting::default();
    let poor = Env { netns: "".into(), args: "x".into(), ..env("DEL") };
    let response = respond(&poor, conf("1.0.0").as_bytes(), &plugin);
    assert_eq!((response.stdout.as_slice(), response.exit), (&b""[..], 0));
    assert_eq!(*plugin.calls.borrow(), ["DEL net/one/eth0 -"]);
}

#[test]
fn c1_12_add_into_the_own_namespace_is_8_before_anything_is_done() {
    let own = Env { own_netns: true, ..env("ADD") };
    let answer = json!({
        "cniVersion": "1.0.0", "code": 8,
        "msg": "plugin's netns and netns from CNI_NETNS should not be the same",
        "details": "give the container a namespace of its own, or set CNI_NETNS_OVERRIDE=1",
    });
    check_refused(&own, &conf("1.0.0"), answer);
}

#[test]
fn c1_12_del_in_the_own_namespace_releases_without_touching_it_and_is_8() {
    let plugin = Noting::default();
    let response = respond(&Env { own_netns: true, ..env("DEL") }, conf("1.0.0").as_bytes(), &plugin);
    assert_eq!((&stdout(&response)["code"], response.exit), (&json!(8), 1));
    assert_eq!(*plugin.calls.borrow(), ["DEL net/one/eth0 -"]);
}
