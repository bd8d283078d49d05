//! Datagrams.

use std::net::{Ipv6Addr, TcpListener, UdpSocket};

use hickory_proto::op::{Message, ResponseCode};
use zeugma_dns::server::{Audience, Listener};
use zeugma_dns::zone::{Network, Snapshot, Upstreams};

use super::{client, received, request, request_with_edns, served, text};

#[test]
fn every_datagram_has_its_answer() {
    let (served, client) = (served(1, Upstreams::default()), client());
    // As many at once as fit into the sockets' buffers.
    for round in 0..3 {
        let ids = round * 100..(round + 1) * 100;
        for id in ids.clone() {
            client.send_to(&request(id, "web.", "A"), served.address).unwrap();
        }
        for id in ids {
            let answer = received(&client);
            assert_eq!((answer.metadata.id, answer.answers.len()), (id, 1));
        }
    }
    served.until(|stats| stats.udp_queries == 300);
}

#[test]
fn closed_sockets_are_free_at_once() {
    let served = served(2, Upstreams::default());
    served.resolver.close(served.id);
    UdpSocket::bind(served.address).unwrap();
    TcpListener::bind(served.address).unwrap();
    served.resolver.close(served.id);
}

#[test]
fn what_does_not_fit_is_marked_and_the_clients_size_counts() {
    let (served, client) = (served(3, Upstreams::default()), client());
    let answered = |request: &[u8]| {
        client.send_to(request, served.address).unwrap();
        let answer = received(&client);
        (answer.metadata.truncation, answer.answers.len(), answer.edns.map(|edns| edns.max_payload()))
    };
    assert_eq!(answered(&request(7, "crowd.", "A")), (true, 0, None));
    assert_eq!(answered(&request_with_edns(65000, "crowd.", "A")), (true, 0, Some(1232)));
    assert_eq!(answered(&request_with_edns(1, "web.", "A")), (false, 1, Some(1232)));
}

#[test]
fn nonsense_is_counted_and_responses_are_never_answered() {
    let (served, client) = (served(4, Upstreams::default()), client());
    let mut response = request(1, "web.", "A");
    response[2] |= 0x80;
    for silent in [&response[..], b"", b"short", &[0xff; 1500]] {
        client.send_to(silent, served.address).unwrap();
    }
    // The next answer is that to the next question: before it came none.
    client.send_to(&request(9, "web.", "A"), served.address).unwrap();
    assert_eq!(received(&client).metadata.id, 9);
    assert_eq!(served.resolver.stats().malformed, 4);
}

#[test]
fn what_is_no_question_has_its_code() {
    let (served, client) = (served(5, Upstreams::default()), client());
    let code = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut request = request_with_edns(1232, "web.", "A");
        change(&mut request);
        client.send_to(&request, served.address).unwrap();
        let mut buffer = [0; 512];
        let length = client.recv(&mut buffer).unwrap();
        Message::from_vec(&buffer[..length]).unwrap().metadata.response_code
    };
    assert_eq!(code(&|request| request[2] |= 0x10), ResponseCode::NotImp);
    assert_eq!(code(&|request| request[5] = 2), ResponseCode::FormErr);
    assert_eq!(code(&|request| request.truncate(14)), ResponseCode::FormErr);
    assert_eq!(code(&|request| request[12] = 0xc0), ResponseCode::FormErr);
    // 16 is BADVERS as well. The version of EDNS: behind header, question, and the OPT record's root, type, payload and extended code.
    assert_eq!(code(&|request| request[12 + 9 + 6] = 1), ResponseCode::BADSIG);
    // The class CH.
    assert_eq!(code(&|request| request[12 + 5 + 3] = 3), ResponseCode::Refused);
}

#[test]
fn strangers_are_refused_and_nobody_is_asked_for_them() {
    let served = served(6, Upstreams::default());
    let network = Network {
        name: "front".parse().unwrap(),
        domain: "zeugma.internal".to_owned(),
        subnets: vec!["10.88.0.0/24".parse().unwrap()],
        upstreams: Upstreams::default(),
    };
    served.resolver.publish(Snapshot::default().with_network(network));
    for name in ["web.", "example.com."] {
        assert_eq!(text(&served.ask(name, "A")), "Query Refused");
    }
    let stats = served.resolver.stats();
    assert_eq!((stats.strangers, stats.forwarded), (2, 0));
}

#[test]
fn a_published_change_is_answered_at_once() {
    let served = served(7, Upstreams::default());
    for turn in 0..50 {
        served.resolver.publish(super::snapshot(Upstreams::default()));
        assert_eq!(text(&served.ask("web.", "A")), "No Error; web. 5 IN A 10.88.0.5", "{turn}");
        served.resolver.publish(
            super::snapshot(Upstreams::default()).without_member(&super::attachment("front", "web")),
        );
        assert_eq!(text(&served.ask("web.", "A")), "Non-Existent Domain", "{turn}");
    }
}

#[test]
fn both_families_are_served() {
    let served = served(8, Upstreams::default());
    let address = (Ipv6Addr::LOCALHOST, 0);
    let tcp = TcpListener::bind(address).unwrap();
    let at = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(at).unwrap();
    let audience = Audience::Container(super::attachment("front", "web"));
    served.resolver.listen(Listener { audience, udp, tcp }).unwrap();
    let client = UdpSocket::bind(address).unwrap();
    client.set_read_timeout(Some(super::PATIENCE)).unwrap();
    client.send_to(&request(1, "web.", "A"), at).unwrap();
    assert_eq!(text(&received(&client)), "No Error; web. 5 IN A 10.88.0.5");
}
