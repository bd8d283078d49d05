//! Datagrams over real sockets.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use zeugma_dns::server::{Audience, Listener, Resolver, Settings};
use zeugma_dns::zone::{Member, Network, Snapshot, Upstreams};

fn snapshot() -> Snapshot {
    let network = Network {
        name: "front".parse().unwrap(),
        domain: "zeugma.internal".to_owned(),
        subnets: vec!["127.0.0.0/8".parse().unwrap()],
        upstreams: Upstreams::default(),
    };
    let member = Member {
        attachment: attachment("front", "web"),
        names: vec!["web".parse().unwrap()],
        aliases: Vec::new(),
        addresses: vec![IpAddr::from([10, 88, 0, 5])],
    };
    Snapshot::default().with_network(network).with_member(member)
}

fn attachment(network: &str, container: &str) -> zeugma_model::AttachmentId {
    zeugma_model::AttachmentId {
        network: network.parse().unwrap(),
        container: container.parse().unwrap(),
        ifname: "eth0".parse().unwrap(),
    }
}

struct Served {
    resolver: Resolver,
    id: zeugma_dns::server::ListenerId,
    address: SocketAddr,
}

/// On an address of its own, so that no other test has its ports.
fn served(last: u8) -> Served {
    let resolver = Resolver::start(Settings { resolv_conf: "/nonexistent".into() }).unwrap();
    let tcp = TcpListener::bind((Ipv4Addr::new(127, 0, 77, last), 0)).unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).unwrap();
    let audience = Audience::Network("front".parse().unwrap());
    let id = resolver.listen(Listener { audience, udp, tcp }).unwrap();
    resolver.publish(snapshot());
    Served { resolver, id, address }
}

fn client() -> UdpSocket {
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client
}

fn request(id: u16) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii("web.").unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

#[test]
fn every_datagram_has_its_answer() {
    let (served, client) = (served(1), client());
    // As many at once as fit into the sockets' buffers.
    for round in 0..3 {
        let ids = round * 100..(round + 1) * 100;
        for id in ids.clone() {
            client.send_to(&request(id), served.address).unwrap();
        }
        for id in ids {
            let mut buffer = [0; 512];
            let length = client.recv(&mut buffer).unwrap();
            let answer = Message::from_vec(&buffer[..length]).unwrap();
            assert_eq!((answer.metadata.id, answer.answers.len()), (id, 1));
        }
    }
    assert_eq!(served.resolver.stats().udp_queries, 300);
}

#[test]
fn closed_sockets_are_free_at_once() {
    let served = served(2);
    served.resolver.close(served.id);
    UdpSocket::bind(served.address).unwrap();
    TcpListener::bind(served.address).unwrap();
    served.resolver.close(served.id);
}
