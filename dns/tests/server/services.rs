//! Services over real sockets.

use std::io::Write;
use std::net::IpAddr;

use hickory_proto::op::Message;
use zeugma_dns::zone::{NamedPort, NamedService, Upstreams};
use zeugma_model::Protocol;

use super::tcp::{answer, connected, framed};
use super::{Served, client, received, request, request_with_edns, served, snapshot};

/// A resolver that knows `api` with a virtual address and endpoints.
fn with_api(last: u8, tasks: u16) -> Served {
    let served = served(last, Upstreams::default());
    served.resolver.publish(snapshot(Upstreams::default()).with_service(NamedService {
        name: "api".parse().unwrap(),
        networks: ["front".parse().unwrap()].into(),
        addresses: vec![IpAddr::from([10, 96, 0, 1])],
        tasks: (0..tasks).map(task).collect(),
        ports: vec![NamedPort { name: "http".into(), protocol: Protocol::Tcp, port: 80, target: 8080 }],
    }));
    served
}

fn task(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    IpAddr::from([10, 88, high, low])
}

fn over_tcp(served: &Served, request: &[u8]) -> Message {
    let mut stream = connected(served);
    stream.write_all(&framed(request)).unwrap();
    answer(&mut stream)
}

#[test]
fn a_services_records_come_with_their_addresses_and_the_edns_record() {
    let (served, client) = (with_api(70, 2), client());
    client.send_to(&request_with_edns(1232, "_http._tcp.tasks.api.", "SRV"), served.address).unwrap();
    let answer = received(&client);
    assert_eq!((answer.answers.len(), answer.additionals.len()), (2, 2));
    assert_eq!(answer.edns.as_ref().map(|edns| edns.max_payload()), Some(1232));
    let name = answer.additionals[1].name.to_string();
    let same = served.ask(&name, "A");
    assert_eq!(same.answers, answer.additionals[1..]);
}

#[test]
fn many_endpoints_fit_over_tcp_and_their_addresses_as_far_as_names_can_be_pointed_at() {
    let served = with_api(71, 400);
    let question = request(7, "_http._tcp.tasks.api.", "SRV");
    let answer = over_tcp(&served, &question);
    assert_eq!((answer.answers.len(), answer.metadata.truncation), (400, false));
    // A pointer (RFC 1035, 4.1.4) reaches 16383 bytes.
    assert!((200..399).contains(&answer.additionals.len()), "{}", answer.additionals.len());
    assert!(
        answer
            .additionals
            .iter()
            .zip(&answer.answers)
            .all(|(address, record)| { record.data.to_string().ends_with(&address.name.to_string()) })
    );
}

#[tokio::test]
async fn what_is_looked_up_is_in_presentation_form() {
    let served = with_api(72, 1);
    let found =
        served.resolver.lookup(Some("front".parse().unwrap()), "_http._tcp.api", "SRV").await.unwrap();
    let data: Vec<_> = found.records.iter().map(|(_, _, kind, data)| (&kind[..], &data[..])).collect();
    assert_eq!(data, [("SRV", "0 0 80 api.zeugma.internal.")]);
    assert_eq!(served.resolver.lookup(None, "api.front", "A").await.unwrap().records[0].3, "10.96.0.1");
}
