//! What is promised of health checks, with servers on the loopback interface.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use zeugma_model::HealthCheck;
use zeugma_services::{Check, Verdict};

use super::AT_ONCE;
use super::Checker;

/// Longer than any answer takes, on a busy machine, too.
const DEADLINE: Duration = Duration::from_secs(60);

fn check(last: u8) -> Check {
    Check { service: "web".parse().unwrap(), address: IpAddr::from([127, 0, 0, last]) }
}

fn how(probe: Value, threshold: u32) -> HealthCheck {
    let text = json!({"probe": probe, "interval_seconds": 1, "timeout_seconds": 1, "threshold": threshold});
    serde_json::from_value(text).unwrap()
}

/// A server that answers every request with this, and tells the requests' heads.
fn server(answer: &'static str) -> (u16, std_mpsc::Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heads, told) = std_mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let _ = stream.write_all(answer.as_bytes());
            if heads.send(head.join("\n").to_lowercase()).is_err() {
                return;
            }
        }
    });
    (port, told)
}

/// A port that nobody listens on.
fn closed() -> u16 {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

/// The first verdict.
fn verdict(how: HealthCheck) -> Verdict {
    runtime().block_on(async {
        let (verdicts, mut told) = mpsc::channel(8);
        let checker = Checker::start(verdicts);
        checker.watch(check(1).service, how, vec![check(1)]);
        let (of, verdict) = timeout(DEADLINE, told.recv()).await.unwrap().unwrap();
        assert_eq!(of, check(1));
        verdict
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn why(how: HealthCheck) -> String {
    match verdict(how) {
        Verdict::Unhealthy(why) => why,
        Verdict::Healthy => panic!("healthy"),
    }
}

#[test]
fn who_takes_connections_is_healthy() {
    let (port, _heads) = server("");
    assert_eq!(verdict(how(json!({"tcp": {"port": port}}), 3)), Verdict::Healthy);
}

#[test]
fn who_refuses_connections_is_not() {
    let why = why(how(json!({"tcp": {"port": closed()}}), 2));
    assert!(why.starts_with("TCP port") && why.contains("refused"), "{why}");
}

#[test]
fn get_asks_with_a_host_and_a_status_below_400_is_healthy() {
    let (port, heads) = server("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(verdict(how(json!({"http": {"port": port, "path": "/up?now"}}), 3)), Verdict::Healthy);
    let head = heads.recv_timeout(DEADLINE).unwrap();
    assert!(head.starts_with("get /up?now http/1.1\n"), "{head}");
    assert!(head.contains(&format!("host: 127.0.0.1:{port}")), "{head}");
    assert!(heads.try_recv().is_err(), "redirects are not followed");
}

#[test]
fn a_status_of_400_or_more_is_unhealthy() {
    let (port, _heads) = server("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    let why = why(how(json!({"http": {"port": port, "path": "/"}}), 1));
    assert_eq!(why, format!("GET :{port}/: status 503 Service Unavailable"));
}

#[test]
fn who_says_nothing_is_unhealthy() {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let why = why(how(json!({"http": {"port": port, "path": "/"}}), 1));
    assert_eq!(why, format!("GET :{port}/ has no answer within 1 s"));
}

#[test]
fn a_path_that_nobody_can_ask_for_is_unhealthy() {
    let why = why(how(json!({"http": {"port": 1, "path": "not a path"}}), 1));
    assert!(why.contains("invalid"), "{why}");
}

#[test]
fn who_falls_ill_is_told_and_who_recovers_too() {
    runtime().block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let (verdicts, mut told) = mpsc::channel(8);
        let checker = Checker::start(verdicts);
        checker.watch(check(1).service, how(json!({"tcp": {"port": at.port()}}), 1), vec![check(1)]);
        let mut next = async || timeout(DEADLINE, told.recv()).await.unwrap().unwrap().1;
        assert_eq!(next().await, Verdict::Healthy);
        drop(listener);
        assert!(matches!(next().await, Verdict::Unhealthy(_)));
        let _listener = TcpListener::bind(at).unwrap();
        assert_eq!(next().await, Verdict::Healthy);
    });
}

#[test]
fn those_who_do_not_answer_do_not_keep_the_others_from_being_asked() {
    runtime().block_on(async {
        let silent = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let (port, _heads) = server("HTTP/1.1 204 No Content\r\n\r\n");
        let (verdicts, mut told) = mpsc::channel(8);
        let checker = Checker::start(verdicts);
        let probe = |port| json!({"http": {"port": port, "path": "/"}});
        let of = |service: &str, last: u8| Check { service: service.parse().unwrap(), ..check(last) };
        // More than are asked at once.
        let address = |number: u16| IpAddr::from([127, 1, (number >> 8) as u8, number as u8]);
        let many =
            (1..=AT_ONCE as u16 + 50).map(|number| Check { address: address(number), ..of("silent", 1) });
        let many = many.collect();
        checker.watch("silent".parse().unwrap(), how(probe(silent.local_addr().unwrap().port()), 1000), many);
        checker.watch(
            "well".parse().unwrap(),
            how(probe(port), 3),
            (1..50).map(|last| of("well", last)).collect(),
        );
        let mut well = BTreeSet::new();
        while well.len() < 49 {
            let (check, verdict) = timeout(DEADLINE, told.recv()).await.unwrap().unwrap();
            assert_eq!((check.service.as_str(), verdict), ("well", Verdict::Healthy));
            well.insert(check.address);
        }
    });
}
