//! The resolver over real sockets on loopback. Each test has an address of its own, so that none has another's ports.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod forward;
mod services;
mod tcp;
mod udp;
mod upstream;
mod zones;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::str::FromStr;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use zeugma_dns::server::{Audience, Listener, ListenerId, Resolver, Settings, Stats, Zones};
use zeugma_dns::zone::{Member, Network, Snapshot, Upstreams};
use zeugma_model::AttachmentId;

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

fn attachment(network: &str, container: &str) -> AttachmentId {
    AttachmentId {
        network: network.parse().unwrap(),
        container: container.parse().unwrap(),
        ifname: "eth0".parse().unwrap(),
    }
}

/// A network on loopback with the members `web` and, with an alias of 100 addresses, `crowd`.
fn snapshot(upstreams: Upstreams) -> Snapshot {
    let network = Network {
        name: "front".parse().unwrap(),
        domain: "zeugma.internal".to_owned(),
        subnets: vec!["127.0.0.0/8".parse().unwrap()],
        upstreams,
    };
    let member = |name: &str, addresses: Vec<IpAddr>| Member {
        attachment: attachment("front", name),
        names: vec![name.parse().unwrap()],
        aliases: Vec::new(),
        addresses,
    };
    let crowd = (1..101).map(|last| IpAddr::from([10, 89, 0, last])).collect();
    Snapshot::default()
        .with_network(network)
        .with_member(member("web", vec![IpAddr::from([10, 88, 0, 5])]))
        .with_member(member("crowd", crowd))
}

/// A resolver that listens at one address.
struct Served {
    resolver: Resolver,
    id: ListenerId,
    address: SocketAddr,
}

fn served(last: u8, upstreams: Upstreams) -> Served {
    served_with(last, upstreams, Zones::default())
}

fn served_with(last: u8, upstreams: Upstreams, zones: Zones) -> Served {
    let resolver = Resolver::start(Settings { resolv_conf: "/nonexistent".into(), zones }).unwrap();
    let tcp = TcpListener::bind((Ipv4Addr::new(127, 0, 77, last), 0)).unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).unwrap();
    let audience = Audience::Network("front".parse().unwrap());
    resolver.publish(snapshot(upstreams));
    let id = resolver.listen(Listener { audience, udp, tcp }).unwrap();
    Served { resolver, id, address }
}

impl Served {
    /// Asks over UDP from an address of loopback.
    fn ask(&self, name: &str, kind: &str) -> Message {
        let client = client();
        client.send_to(&request(7, name, kind), self.address).unwrap();
        received(&client)
    }

    /// Waits until the counters are as they have to be.
    fn until(&self, is_so: impl Fn(&Stats) -> bool) {
        let begin = Instant::now();
        while !is_so(&self.resolver.stats()) {
            assert!(begin.elapsed() < PATIENCE, "{:?}", self.resolver.stats());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn client() -> UdpSocket {
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

fn received(client: &UdpSocket) -> Message {
    let mut buffer = [0; 2048];
    let length = client.recv(&mut buffer).unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

fn message(id: u16, name: &str, kind: &str) -> Message {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::from_str(kind).unwrap()));
    message
}

fn request(id: u16, name: &str, kind: &str) -> Vec<u8> {
    message(id, name, kind).to_vec().unwrap()
}

fn request_with_edns(payload: u16, name: &str, kind: &str) -> Vec<u8> {
    let mut message = message(7, name, kind);
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.edns = Some(edns);
    message.to_vec().unwrap()
}

/// Code and answers as text.
fn text(message: &Message) -> String {
    let answers: String = message.answers.iter().map(|record| format!("; {record}")).collect();
    format!("{}{answers}", message.metadata.response_code)
}
