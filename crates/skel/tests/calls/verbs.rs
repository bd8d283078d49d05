//! Versions, verbs and answers.

use serde_json::json;
use zeugma_protocol::CniResult;
use zeugma_skel::{Env, respond};

use crate::plugin::{Noting, Young, check_refused, conf, env, stdout};

#[test]
fn c1_05_without_command_there_is_an_about_line() {
    let response = respond(&Env::default(), b"", &Noting::default());
    let about = String::from_utf8(response.stderr).unwrap();
    assert!(about.starts_with("CNI noting plugin v1.") && about.contains("+zeugma."), "{about}");
    assert!(about.ends_with("supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"), "{about}");
    assert_eq!((response.stdout.as_slice(), response.exit), (&b""[..], 0));
}

#[test]
fn c1_08_version_needs_nothing_and_echoes_the_input() {
    let alone = Env { command: "VERSION".into(), ..Env::default() };
    let all = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
    for (stdin, version) in [("", "1.1.0"), ("x", "1.1.0"), (r#"{"cniVersion":"0.3.1"}"#, "0.3.1")] {
        let response = respond(&alone, stdin.as_bytes(), &Noting::default());
        assert_eq!(stdout(&response), json!({ "cniVersion": version, "supportedVersions": all }));
        assert_eq!(response.exit, 0);
    }
}

#[test]
fn c1_08_version_begins_with_the_plugins_oldest() {
    let response = respond(&env("VERSION"), b"", &Young(Noting::default()));
    assert_eq!(stdout(&response)["supportedVersions"], json!(["0.4.0", "1.0.0", "1.1.0"]));
}

#[test]
fn c1_03_undecodable_is_6_nameless_is_7() {
    for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
        for (stdin, code) in [("", 6), ("{", 6), ("{}", 7), (r#"{"name":"a b"}"#, 7)] {
            let response = respond(&env(verb), stdin.as_bytes(), &Noting::default());
            assert_eq!((&stdout(&response)["code"], response.exit), (&json!(code), 1), "{verb} {stdin}");
        }
    }
}

#[test]
fn c1_03_an_unknown_version_is_1() {
    let details =
        r#"config is "9.9.9", plugin supports ["0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0" "1.1.0"]"#;
    let answer = json!({ "code": 1, "msg": "incompatible CNI versions", "details": details });
    check_refused(&env("ADD"), &conf("9.9.9"), answer);
}

#[test]
fn c1_03_a_version_older_than_the_plugin_is_1() {
    let plugin = Young(Noting::default());
    let details = |config| format!(r#"config is "{config}", plugin supports ["0.4.0" "1.0.0" "1.1.0"]"#);
    for (config, known) in [("0.3.1", json!("0.3.1")), ("0.5.0", json!(null))] {
        let answer = stdout(&respond(&env("DEL"), conf(config).as_bytes(), &plugin));
        assert_eq!((&answer["code"], &answer["cniVersion"]), (&json!(1), &known));
        assert_eq!(answer["details"], details(config));
    }
    assert!(plugin.0.calls.borrow().is_empty());
}

#[test]
fn c1_10_verbs_need_the_version_that_brought_them() {
    for (verb, too_old, old_enough) in
        [("CHECK", "0.3.1", "0.4.0"), ("GC", "1.0.0", "1.1.0"), ("STATUS", "1.0.0", "1.1.0")]
    {
        let answer = json!({
            "cniVersion": too_old, "code": 1, "msg": format!("config version does not allow {verb}"),
            "details": format!("config is {too_old:?}; {verb} needs {old_enough}"),
        });
        check_refused(&env(verb), &conf(too_old), answer);
        let response = respond(&env(verb), conf(old_enough).as_bytes(), &Noting::default());
        assert_eq!((response.stdout.as_slice(), response.exit), (&b""[..], 0), "{verb}");
    }
}

#[test]
fn c1_09_add_answers_in_the_configurations_version() {
    for (version, expected) in [
        ("", json!({ "cniVersion": "0.1.0", "ip4": { "ip": "10.1.2.3/24" }, "dns": {} })),
        (
            "0.4.0",
            json!({ "cniVersion": "0.4.0", "ips": [{ "version": "4", "address": "10.1.2.3/24" }], "dns": {} }),
        ),
        ("1.1.0", json!({ "cniVersion": "1.1.0", "ips": [{ "address": "10.1.2.3/24" }] })),
    ] {
        let response = respond(&env("ADD"), conf(version).as_bytes(), &Noting::with_address());
        assert_eq!((stdout(&response), response.exit), (expected, 0));
    }
}

#[test]
fn c1_15_a_result_without_shape_in_the_version_is_undone() {
    let plugin = Noting { result: CniResult::default(), ..Noting::default() };
    let response = respond(&env("ADD"), conf("0.2.0").as_bytes(), &plugin);
    assert_eq!((&stdout(&response)["code"], response.exit), (&json!(1), 1));
    assert_eq!(
        *plugin.calls.borrow(),
        ["ADD net/one/eth0 /run/netns/one", "DEL net/one/eth0 /run/netns/one"]
    );
}

#[test]
fn c1_06_a_plugins_error_is_an_object_on_stdout_and_exit_1() {
    for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
        let plugin = Noting { fails: true, ..Noting::default() };
        let response = respond(&env(verb), conf("1.1.0").as_bytes(), &plugin);
        let error =
            json!({ "cniVersion": "1.1.0", "code": 101, "msg": "port 80 is taken", "details": "by web" });
        assert_eq!((stdout(&response), response.exit), (error, 1), "{verb}");
        assert_eq!(plugin.calls.borrow().len(), 1);
    }
}

#[test]
fn c1_01_requests_hold_what_was_asked() {
    let plugin = Noting::default();
    for verb in ["ADD", "CHECK", "DEL", "GC", "STATUS"] {
        respond(&env(verb), conf("1.1.0").as_bytes(), &plugin);
    }
    let one = |verb: &str| format!("{verb} net/one/eth0 /run/netns/one");
    assert_eq!(
        *plugin.calls.borrow(),
        [one("ADD"), one("CHECK"), one("DEL"), "GC net".into(), "STATUS net".into()]
    );
}

#[test]
fn c1_17_del_tolerates_an_unreadable_prev_result() {
    let stdin = br#"{"cniVersion":"1.0.0","name":"net","prevResult":"gone"}"#;
    assert_eq!(respond(&env("DEL"), stdin, &Noting::default()).exit, 0);
    assert_eq!(stdout(&respond(&env("CHECK"), stdin, &Noting::default()))["code"], 6);
}
