//! The entries for fuzzing what comes over the wire and out of files.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use hickory_proto::op::Message;
use tokio::time::Instant;
use zeugma_model::{AttachmentId, Protocol};

use crate::forward::{Cache, Key, ResolvConf, relay};
use crate::wire::{DATAGRAM_BYTES, Question};
use crate::zone::{Audience, Member, NamedPort, NamedService, Network, Snapshot, Upstreams, render};

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(snapshot);

fn snapshot() -> Snapshot {
    let network = || "front".parse().expect("a name of a network");
    let attachment = || AttachmentId {
        network: network(),
        container: "web".parse().expect("a container ID"),
        ifname: "eth0".parse().expect("the name of an interface"),
    };
    let alias = |text: &str| text.parse().expect("an alias");
    let member = Member {
        attachment: attachment(),
        names: vec![alias("web")],
        aliases: vec![alias("a.b")],
        addresses: (1..200).map(|last| IpAddr::from([10, 88, 0, last])).collect(),
    };
    let network = Network {
        name: network(),
        domain: "zeugma.internal".to_owned(),
        subnets: vec!["10.88.0.0/24".parse().expect("a subnet")],
        upstreams: Upstreams::default(),
    };
    Snapshot::default().with_network(network).with_member(member).with_service(service("api", 20))
}

/// With endpoints of both families, too many for a datagram.
fn service(name: &str, tasks: u8) -> NamedService {
    let v4 = (0..tasks).map(|last| IpAddr::from([10, 88, 1, last]));
    let v6 = (0..tasks).map(|last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last.into()]));
    NamedService {
        name: name.parse().expect("a name of a service"),
        networks: ["front".parse().expect("a name of a network")].into(),
        addresses: vec![IpAddr::from([10, 96, 0, 1])],
        tasks: v4.chain(v6).collect(),
        ports: vec![NamedPort { name: "http".to_owned(), protocol: Protocol::Tcp, port: 80, target: 8080 }],
    }
}

/// Answers `input` as a datagram from a member. Every reply can be read, belongs to the question and fits.
pub fn fuzz_dns_message(input: &[u8]) {
    let Ok(question) = Question::parse(input) else { return };
    let audience = Audience::Network("front".parse().expect("a name of a network"));
    let view = SNAPSHOT.view(&audience, IpAddr::from([10, 88, 0, 1])).expect("the host is known");
    let mut buffer = [0; DATAGRAM_BYTES];
    let limit = question.datagram_limit();
    let (length, _) = render(&question, &view.answer(&question), question.id().into(), &mut buffer, limit);
    assert!(length <= limit);
    check_reply(&question, &buffer[..length]);
}

/// Takes `input` for what another server said, and hands it on.
pub fn fuzz_dns_answer(input: &[u8]) {
    let Ok(message) = Message::from_vec(input) else { return };
    let request = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03wWw\x07example\x00\x00\x01\x00\x01";
    let question = Question::parse(request).expect("a question");
    let server = SocketAddr::from(([192, 0, 2, 1], 53));
    let (mut cache, key) = (Cache::default(), Key::new(&question, [server].into()));
    let (given, is_stale) = cache.settle(&key, Some(message), Instant::now());
    assert!(!is_stale);
    let mut buffer = [0; DATAGRAM_BYTES];
    let (length, _) = relay(&question, &given, &mut buffer, question.datagram_limit());
    check_reply(&question, &buffer[..length]);
}

/// Reads `input` as a resolv.conf.
pub fn fuzz_host_resolv_conf(input: &[u8]) {
    let read = ResolvConf::parse(input);
    assert!(read.servers.len() <= 3);
    let is_name = |scope: &String| !scope.is_empty() && !scope.contains('/');
    assert!(read.servers.iter().filter_map(|server| server.scope.as_ref()).all(is_name));
}

fn check_reply(question: &Question<'_>, reply: &[u8]) {
    assert!(reply.len() >= question.head.len() && reply[2] & 0x80 != 0);
    assert_eq!(reply[..2], question.head[..2]);
    assert_eq!(reply[12..question.head.len()], question.head[12..]);
    let read = Message::from_vec(reply);
    assert!(read.is_ok(), "{read:?}");
}
