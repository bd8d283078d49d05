//! Names of the outside.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use zeugma_dns::server::{Audience, Listener};
use zeugma_dns::zone::Upstreams;

use super::upstream::{Upstream, Way, absence, addresses, empty, pause};
use super::{Served, client, received, request, served, text};

fn asking(servers: &[&Upstream]) -> Upstreams {
    Upstreams { servers: servers.iter().map(|server| server.address).collect(), ..Upstreams::default() }
}

#[test]
fn names_of_the_outside_are_asked_for_once_and_kept() {
    let upstream = Upstream::start(20, |question, _| Some(addresses(question, 60, 1)));
    let served = served(20, asking(&[&upstream]));
    for _ in 0..3 {
        let answer = served.ask("Example.COM.", "A");
        assert!(answer.metadata.recursion_available && !answer.metadata.authoritative);
        assert!(text(&answer).starts_with("No Error; Example.COM. "), "{}", text(&answer));
    }
    let stats = served.resolver.stats();
    assert_eq!((upstream.asked(), stats.forwarded, stats.cache_hits), (1, 1, 2));
}

#[test]
fn absences_are_kept_too() {
    let upstream = Upstream::start(21, |question, _| Some(absence(question)));
    let served = served(21, asking(&[&upstream]));
    for _ in 0..3 {
        let answer = served.ask("none.example.", "A");
        assert_eq!((text(&answer).as_str(), answer.authorities.len()), ("Non-Existent Domain", 1));
    }
    assert_eq!(upstream.asked(), 1);
}

#[test]
fn the_case_and_the_number_that_go_out_are_not_the_clients() {
    let upstream = Upstream::start(22, |question, _| {
        let name = question.queries[0].name().to_ascii();
        assert_eq!(name.to_ascii_lowercase(), "a-very-long-name-with-many-letters.example.com.");
        // Letters at random are all small once in 10^10 times.
        assert_ne!(name, name.to_ascii_lowercase());
        Some(addresses(question, 60, 1))
    });
    let served = served(22, asking(&[&upstream]));
    let answer = served.ask("a-very-long-name-with-many-letters.example.com.", "A");
    assert!(text(&answer).starts_with("No Error; a-very-long-name-with-many-letters.example.com. "));
}

#[test]
fn an_answer_to_another_question_is_none() {
    let upstream = Upstream::start(23, |question, _| {
        let mut forged = addresses(question, 60, 1);
        forged.queries[0].name = "victim.example.".parse().unwrap();
        Some(forged)
    });
    let served = served(23, asking(&[&upstream]));
    assert_eq!(text(&served.ask("www.example.", "A")), "Server Failure");
}

#[test]
fn what_is_too_long_for_a_datagram_is_fetched_over_tcp() {
    let upstream = Upstream::start(24, |question, way| {
        let mut answer = addresses(question, 60, 25);
        answer.metadata.truncation = way == Way::Udp;
        Some(answer)
    });
    let served = served(24, asking(&[&upstream]));
    assert_eq!(served.ask("www.example.", "A").answers.len(), 25);
}

#[test]
fn the_first_server_that_knows_is_believed() {
    let silent = Upstream::start(25, |_, _| None);
    let failing = Upstream::start(26, |question, _| Some(empty(question, ResponseCode::ServFail)));
    let slow = Upstream::start(27, |question, _| {
        pause(Duration::from_millis(50));
        Some(addresses(question, 60, 1))
    });
    let served = served(25, asking(&[&silent, &failing, &slow]));
    assert!(text(&served.ask("www.example.", "A")).starts_with("No Error; www.example. "));
}

#[test]
fn silence_becomes_a_failure_before_clients_give_up() {
    let silent = Upstream::start(28, |_, _| None);
    let served = served(28, asking(&[&silent]));
    assert_eq!(text(&served.ask("www.example.", "A")), "Server Failure");
    assert_eq!(served.resolver.stats().forward_failures, 1);
}

#[test]
fn an_old_answer_is_better_than_none() {
    let works = Arc::new(AtomicBool::new(true));
    let still = works.clone();
    let upstream = Upstream::start(29, move |question, _| {
        let code = ResponseCode::ServFail;
        Some(if still.load(Ordering::SeqCst) { addresses(question, 1, 1) } else { empty(question, code) })
    });
    let served = served(29, asking(&[&upstream]));
    assert!(text(&served.ask("www.example.", "A")).starts_with("No Error; www.example. "));
    works.store(false, Ordering::SeqCst);
    served.until(|stats| {
        let answer = text(&served.ask("www.example.", "A"));
        assert!(answer.starts_with("No Error; www.example. "), "{answer}");
        stats.stale > 0
    });
    assert_eq!(text(&served.ask("www.example.", "A")), "No Error; www.example. 30 IN A 192.0.2.1");
}

#[test]
fn identical_questions_share_one() {
    let upstream = Upstream::start(30, |question, _| {
        pause(Duration::from_millis(300));
        Some(addresses(question, 60, 1))
    });
    let (served, client) = (served(30, asking(&[&upstream])), client());
    for id in 0..20 {
        client.send_to(&request(id, "www.example.", "A"), served.address).unwrap();
    }
    for _ in 0..20 {
        assert_eq!(received(&client).answers.len(), 1);
    }
    assert_eq!(served.resolver.stats().forwarded, 1);
}

#[test]
fn domains_have_their_own_servers_the_longest_first() {
    let other = Upstream::start(31, |question, _| Some(absence(question)));
    let inner = Upstream::start(32, |question, _| Some(addresses(question, 60, 1)));
    let by_domain = BTreeMap::from([
        ("example".to_owned(), vec![other.address]),
        ("corp.example".to_owned(), vec![inner.address]),
    ]);
    let served = served(31, Upstreams { by_domain, ..asking(&[&other]) });
    assert_eq!(served.ask("www.corp.example.", "A").metadata.response_code, ResponseCode::NoError);
    assert_eq!(served.ask("www.acorp.example.", "A").metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn single_labels_and_own_addresses_never_leave() {
    let upstream = Upstream::start(33, |question, _| Some(addresses(question, 60, 1)));
    let served = served(33, asking(&[&upstream]));
    for (name, kind) in [("none.", "A"), ("9.0.0.127.in-addr.arpa.", "PTR"), ("none.zeugma.internal.", "A")] {
        assert_eq!(text(&served.ask(name, kind)), "Non-Existent Domain", "{name}");
    }
    assert_eq!(upstream.asked(), 0);
}

#[test]
fn we_are_never_asked_by_ourselves() {
    let served = served(34, Upstreams::default());
    let own = Upstreams { servers: vec![served.address], ..Upstreams::default() };
    served.resolver.publish(super::snapshot(own));
    assert_eq!(text(&served.ask("www.example.", "A")), "Server Failure");
    // Questions are counted once their answers are on the way.
    served.until(|stats| stats.udp_queries > 0);
    let stats = served.resolver.stats();
    assert_eq!((stats.udp_queries, stats.forwarded), (1, 0));
}

#[test]
fn who_asks_too_much_is_refused_and_others_are_not() {
    let silent = Upstream::start(35, |_, _| None);
    let (served, client) = (served(35, asking(&[&silent])), client());
    for id in 0..80 {
        client.send_to(&request(id, &format!("n{id}.example."), "A"), served.address).unwrap();
    }
    let codes: Vec<_> = (0..80).map(|_| received(&client).metadata.response_code).collect();
    let count = |code| codes.iter().filter(|found| **found == code).count();
    assert_eq!((count(ResponseCode::Refused), count(ResponseCode::ServFail)), (30, 50));
    assert_eq!(text(&served.ask("web.", "A")), "No Error; web. 5 IN A 10.88.0.5");
}

#[test]
fn who_wants_no_recursion_gets_none() {
    let upstream = Upstream::start(36, |question, _| Some(addresses(question, 60, 1)));
    let (served, client) = (served(36, asking(&[&upstream])), client());
    let mut plain = request(1, "www.example.", "A");
    plain[2] &= !1;
    client.send_to(&plain, served.address).unwrap();
    assert_eq!(text(&received(&client)), "Query Refused");
}

#[test]
fn a_lookup_is_answered_as_a_client_is() {
    let upstream = Upstream::start(37, |question, _| Some(addresses(question, 60, 1)));
    let served = served(37, asking(&[&upstream]));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let look = |network: Option<&str>, name: &str| {
        let network = network.map(|name| name.parse().unwrap());
        let looked = runtime.block_on(served.resolver.lookup(network, name, "a"));
        looked.map(|looked| (looked.code, looked.records)).map_err(|error| error.to_string())
    };
    let record = |name: &str, ttl, data: &str| (name.to_owned(), ttl, "A".to_owned(), data.to_owned());
    let web = Ok(("NOERROR".to_owned(), vec![record("web.", 5, "10.88.0.5")]));
    assert_eq!(look(None, "web"), web);
    assert_eq!(look(Some("front"), "web."), web);
    let outside = vec![record("www.example.", 60, "192.0.2.1")];
    assert_eq!(look(Some("front"), "www.example"), Ok(("NOERROR".to_owned(), outside)));
    assert!(look(Some("none"), "web").unwrap_err().contains("no network \"none\""));
}

/// Containers' listeners, by the last byte of their address: inside of them every client has the same address.
fn inside(served: &Served, last: u8) -> SocketAddr {
    let tcp = TcpListener::bind((Ipv4Addr::new(127, 0, 79, last), 0)).unwrap();
    let address = tcp.local_addr().unwrap();
    let audience = Audience::Container(super::attachment("front", "web"));
    let udp = UdpSocket::bind(address).unwrap();
    served.resolver.listen(Listener { audience, udp, tcp }).unwrap();
    address
}

#[test]
fn one_container_does_not_use_up_what_is_anothers() {
    let silent = Upstream::start(38, |_, _| None);
    let served = served(38, asking(&[&silent]));
    let (one, other, client) = (inside(&served, 1), inside(&served, 2), client());
    for id in 0..60 {
        client.send_to(&request(id, &format!("n{id}.example."), "A"), one).unwrap();
    }
    client.send_to(&request(100, "n100.example.", "A"), other).unwrap();
    let codes: Vec<_> =
        (0..61).map(|_| received(&client).metadata).map(|m| (m.id, m.response_code)).collect();
    let refused = codes.iter().filter(|(_, code)| *code == ResponseCode::Refused).count();
    assert!(refused == 10 && codes.contains(&(100, ResponseCode::ServFail)), "{codes:?}");
}

#[test]
fn a_few_containers_do_not_use_up_what_is_everybodys() {
    let silent = Upstream::start(43, |_, _| None);
    let (served, client) = (served(43, asking(&[&silent])), client());
    for last in 11..15 {
        let greedy = inside(&served, last);
        for id in 0..50 {
            client.send_to(&request(id, &format!("n{id}.c{last}.example."), "A"), greedy).unwrap();
        }
    }
    served.until(|stats| stats.forwarded >= 150);
    client.send_to(&request(100, "www.example.", "A"), inside(&served, 16)).unwrap();
    let codes: Vec<_> =
        (0..201).map(|_| received(&client).metadata).map(|m| (m.id, m.response_code)).collect();
    assert!(codes.contains(&(100, ResponseCode::ServFail)), "{codes:?}");
}
