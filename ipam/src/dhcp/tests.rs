//! What `dhcp` asks the daemon, and what it makes of the answers; the daemon is a thread here.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};
use zeugma_protocol::CniCode;

use super::protocol::Question;
use super::*;
use crate::testing::{conf, network_request, request};

const RESULT_LINE: &str = r#"{"answer":"lease","result":{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.9/24",
    "gateway":"10.0.0.1"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.1"}],"dns":{"nameservers":["10.0.0.53"]}}}"#;

/// A daemon that says one line to one question; what it was asked.
fn daemon(socket: &Path, says: &str) -> JoinHandle<Value> {
    let listener = UnixListener::bind(socket).unwrap();
    let says = says.replace('\n', "") + "\n";
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        stream.write_all(says.as_bytes()).unwrap();
        serde_json::from_str(&line).unwrap()
    })
}

fn ipam(socket: &Path, more: Value) -> Value {
    let mut ipam = json!({"type": "dhcp", "daemonSocketPath": socket});
    more.as_object().into_iter().flatten().for_each(|(key, value)| ipam[key] = value.clone());
    ipam
}

fn wanting(ipam: Value, args: &str) -> Request {
    let mut request = request(&conf(ipam, &json!({})), "c1", args);
    request.netns = Some("/run/netns/c1".into());
    request
}

/// ADD with these keys and this answer: question and outcome.
fn add(more: Value, args: &str, says: &str) -> (Value, Result<CniResult, (u32, String)>) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("dhcp.sock");
    let daemon = daemon(&socket, says);
    let outcome = Dhcp.add(&wanting(ipam(&socket, more), args));
    (daemon.join().unwrap(), outcome.map_err(|error| (error.code().number(), error.to_string())))
}

/// The code of an ADD that does not come to ask.
fn mistake(more: Value, args: &str) -> u32 {
    Dhcp.add(&wanting(ipam(Path::new("/nowhere"), more), args)).unwrap_err().code().number()
}

#[test]
fn everything_is_asked_for_that_a_result_has_room_for() {
    let (question, result) = add(json!({}), "", RESULT_LINE);
    let attachment = json!({"network": "net", "container": "c1", "ifname": "eth0"});
    let expected = json!({"version": 1, "ask": "acquire", "attachment": attachment, "netns": "/run/netns/c1",
        "provide": [], "request": [1, 121, 33, 3, 6, 15, 119]});
    assert_eq!(question, expected);
    let result = result.unwrap();
    assert_eq!((result.dns.nameservers, result.routes[0].priority), (vec!["10.0.0.53".to_owned()], None));
}

#[test]
fn options_are_provided_and_requested_by_name_and_number() {
    let more = json!({
        "provide": [
            {"option": "host-name", "value": "fixed", "fromArg": "K8S_POD_NAME"},
            {"option": "60", "fromArg": "K8S_POD_UID"}, {"option": "77", "value": "blue"},
        ],
        "request": [{"skipDefault": true}, {"option": "subnet-mask"}, {"option": "42"}, {"option": "1"}],
        "priority": 50,
    });
    let (question, result) = add(more, "K8S_POD_NAME=web-0", RESULT_LINE);
    let provide = json!([{"code": 12, "value": "fixed"}, {"code": 12, "value": "web-0"}, {"code": 77, "value": "blue"}]);
    assert_eq!((&question["provide"], &question["request"]), (&provide, &json!([1, 42])));
    assert_eq!(result.unwrap().routes[0].priority, Some(50));
}

#[test]
fn mistakes_have_their_codes() {
    assert_eq!(mistake(json!({"request": [{"option": "no-such-option"}]}), ""), 7);
    assert_eq!(mistake(json!({"provide": [{"option": "256", "value": "x"}]}), ""), 7);
    assert_eq!(mistake(json!({"provide": [{"option": "53", "value": "x"}]}), ""), 7);
    assert_eq!(mistake(json!({"provide": [{"option": "12", "value": "x".repeat(256)}]}), ""), 7);
    let long = format!("K8S_POD_NAME={}", "x".repeat(256));
    assert_eq!(mistake(json!({"provide": [{"option": "12", "fromArg": "K8S_POD_NAME"}]}), &long), 7);
    assert_eq!(mistake(json!({"priority": -1}), ""), 6);
    assert_eq!(mistake(json!({"provide": {}}), ""), 6);
    let mut without = wanting(json!({}), "");
    without.conf.ipam = None;
    assert_eq!(Dhcp.add(&without).unwrap_err().code().number(), 7);
    assert_eq!(Dhcp.check(&without).unwrap_err().code().number(), 7);
}

#[test]
fn failures_of_the_daemon_keep_their_words_and_have_their_codes() {
    for (failure, code) in [
        ("timeout", 11),
        ("busy", 11),
        ("no-lease", 132),
        ("unusable", 133),
        ("no-interface", 134),
        ("io", 5),
    ] {
        let says = json!({"answer": "failed", "failure": failure, "message": "what and why"}).to_string();
        assert_eq!(add(json!({}), "", &says).1, Err((code, "what and why".to_owned())));
    }
}

#[test]
fn other_daemons_are_told_apart() {
    let (code, message) = add(json!({}), "", "HTTP/1.1 400 Bad Request").1.unwrap_err();
    assert!(code == 131 && message.contains("zeugma dhcp"), "{message}");
    assert_eq!(add(json!({}), "", "hello").1.unwrap_err().0, 131);
}

#[test]
fn check_compares_with_the_result() {
    let check = |address: &str| {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("dhcp.sock");
        let daemon = daemon(&socket, RESULT_LINE);
        let result = json!({"cniVersion": "1.1.0", "ips": [{"address": address}]});
        let conf = conf(ipam(&socket, json!({})), &json!({"prevResult": result}));
        let outcome = Dhcp.check(&request(&conf, "c1", "")).map_err(|error| error.code().number());
        (daemon.join().unwrap()["ask"].clone(), outcome)
    };
    assert_eq!(check("10.0.0.9/24"), (json!("confirm"), Ok(())));
    assert_eq!(check("10.0.0.8/24"), (json!("confirm"), Err(132)));
}

#[test]
fn without_a_daemon_only_what_has_nothing_to_do_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("dhcp.sock");
    let conf = conf(ipam(&socket, json!({})), &json!({"cni.dev/valid-attachments": []}));
    let network = network_request(&conf);
    let code = |outcome: Result<(), Error>| outcome.map_err(|error| error.code().number());
    assert_eq!(code(Dhcp.del(&request(&conf, "c1", ""))), Ok(()));
    assert_eq!(code(Dhcp.gc(&network)), Ok(()));
    assert_eq!(code(Dhcp.check(&request(&conf, "c1", ""))), Err(130));
    assert_eq!(code(Dhcp.status(&network)), Err(50));
    let error = Dhcp.add(&wanting(ipam(&socket, json!({})), "")).unwrap_err();
    assert!(error.code().number() == 130 && error.to_string().contains("zeugma dhcp"), "{error}");
}

#[test]
fn questions_survive_the_wire() {
    let retain = Ask::Retain {
        network: "net".parse().unwrap(),
        valid: vec![("c1".parse().unwrap(), "eth0".parse().unwrap())],
    };
    for ask in [retain, Ask::Status] {
        let question = Question { version: protocol::VERSION, ask };
        let text = serde_json::to_string(&question).unwrap();
        assert_eq!(serde_json::from_str::<Question>(&text).unwrap(), question, "{text}");
    }
}
