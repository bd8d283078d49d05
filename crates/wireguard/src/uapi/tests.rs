//! What is written of a device is read again, and what is no request is refused. Sockets are not opened here.

use proptest::prelude::*;

use super::*;

fn key() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_map(PublicKey)
}

fn secret() -> impl Strategy<Value = Option<Secret>> {
    prop_oneof![
        Just(None),
        any::<[u8; 32]>().prop_filter("a key", |key| *key != [0; 32]).prop_map(|key| Some(Secret(key)))
    ]
}

fn network() -> impl Strategy<Value = IpNetwork> {
    (any::<std::net::IpAddr>(), 0_u8..=32)
        .prop_map(|(address, length)| IpNetwork::new(address, length).unwrap())
}

fn peer_change() -> impl Strategy<Value = PeerChange> {
    let flags = any::<[bool; 3]>();
    let endpoint = proptest::option::of(any::<std::net::SocketAddr>());
    let allowed = proptest::collection::vec((network(), any::<bool>()), 0..4);
    let rest = (proptest::option::of(secret()), endpoint, any::<Option<u16>>(), allowed);
    (key(), flags, rest).prop_map(
        |(key, [remove, update_only, replace_allowed], (preshared_key, endpoint, keepalive, allowed))| {
            // The flow of an address is nothing that is written.
            let endpoint = endpoint.map(|at| std::net::SocketAddr::new(at.ip(), at.port()));
            PeerChange {
                key,
                remove,
                update_only,
                preshared_key,
                endpoint,
                keepalive,
                replace_allowed,
                allowed,
            }
        },
    )
}

fn some_change() -> impl Strategy<Value = Change> {
    let peers = proptest::collection::vec(peer_change(), 0..4);
    (proptest::option::of(secret()), any::<Option<u16>>(), any::<Option<u32>>(), any::<bool>(), peers)
        .prop_map(|(private_key, listen_port, fwmark, replace_peers, peers)| Change {
            private_key,
            listen_port,
            fwmark,
            replace_peers,
            peers,
        })
}

fn peer_state() -> impl Strategy<Value = PeerState> {
    let time = proptest::option::of((1_u64..1 << 40, 0_u32..1_000_000_000));
    let numbers = (any::<u64>(), any::<u64>(), any::<u16>());
    let endpoint = proptest::option::of(any::<std::net::SocketAddr>());
    let allowed = proptest::collection::vec(network(), 0..4);
    (key(), secret(), endpoint, time, numbers, allowed).prop_map(
        |(key, preshared_key, endpoint, time, numbers, allowed)| PeerState {
            key,
            preshared_key,
            endpoint: endpoint.map(|at| std::net::SocketAddr::new(at.ip(), at.port())),
            last_handshake: time.map(|(seconds, nanoseconds)| Duration::new(seconds, nanoseconds)),
            received: numbers.0,
            sent: numbers.1,
            keepalive: numbers.2,
            allowed,
        },
    )
}

proptest! {
    #[test]
    fn what_is_asked_is_read_as_it_was_meant(asked in some_change()) {
        let text = change(&asked);
        prop_assert_eq!(request_end(text.as_bytes()), Some(text.len()));
        prop_assert_eq!(request(&text), Ok(Request::Set(asked)));
    }

    #[test]
    fn what_is_answered_is_read_as_it_was_meant(
        private_key in secret(), listen_port: u16, fwmark: u32, peers in proptest::collection::vec(peer_state(), 0..4)
    ) {
        let said = State { private_key, listen_port, fwmark, peers };
        prop_assert_eq!(answered(&state(&said)), Ok(said.clone()));
        prop_assert!(matches!(request(&change(&said.as_change())), Ok(Request::Set(_))));
    }

    #[test]
    fn no_text_is_too_strange(text in "(get=1\n|set=1\n)?([a-z_]{0,12}=?[-0-9a-f./:]{0,70}\n){0,6}\n?") {
        let _ = (request(&text), answered(&text), request_end(text.as_bytes()));
    }
}

#[test]
fn the_example_of_the_specification_is_understood() {
    let text = "set=1
private_key=e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a
fwmark=0
listen_port=12912
replace_peers=true
public_key=b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33
preshared_key=188515093e952f5f22e865cef3012e72f8b5f0b598ac0309d5dacce3b70fcf52
replace_allowed_ips=true
allowed_ip=192.168.4.4/32
endpoint=[abcd:23::33%2]:51820
public_key=58402e695ba1772b1cc9309755f043251ea77fdcf10fbe63989ceb7e19321376
replace_allowed_ips=true
allowed_ip=192.168.4.6/32
persistent_keepalive_interval=111
endpoint=182.122.22.19:3233
public_key=662e14fd594556f522604703340351258903b64f35553763f19426ab2a515c58
remove=true

";
    let Ok(Request::Set(change)) = request(text) else { panic!("not understood") };
    assert_eq!((change.listen_port, change.peers.len()), (Some(12912), 3));
    assert_eq!(change.peers[0].endpoint, "[abcd:23::33%2]:51820".parse().ok());
    assert_eq!(change.peers[1].keepalive, Some(111));
    assert!(change.peers[2].remove);
}

#[test]
fn what_is_wrong_is_said_and_no_key_with_it() {
    assert_eq!(request("go=1\n\n"), Err(Misread::NoRequest));
    assert_eq!(request("set=1\nlisten_port=70000\n\n"), Err(Misread::Value("listen_port".into())));
    assert_eq!(request("set=1\nremove=true\n\n"), Err(Misread::Key("remove".into())));
    assert_eq!(request("set=1\nprivate_key=abc\n\n"), Err(Misread::Value("private_key".into())));
    let key = "4".repeat(64);
    for line in [key.clone(), format!("{key}="), format!("private_key {key}"), format!("private_key={key}5")]
    {
        for text in [format!("set=1\n{line}\n\n"), format!("{line}\n\n"), format!("get=1\n{line}\n\n")] {
            let told = request(&text).unwrap_err();
            assert!(!format!("{told} {told:?}").contains("444"), "{told}");
        }
    }
    assert_eq!(answered("errno=98\n\n"), Err(Misread::Refused(98)));
    assert_eq!(answered("listen_port=1\n"), Err(Misread::Cut));
    assert_eq!(format!("{:?}", Secret([1; 32])), "Secret(..)");
}

#[test]
fn links_may_be_named() {
    let text =
        |scope: &str| format!("set=1\npublic_key={}\nendpoint=[fe80::1%{scope}]:51820\n\n", "1".repeat(64));
    let index = |name: &str| (name == "eth0").then_some(7);
    assert_eq!(numbered(&text("eth0"), index), text("7"));
    assert_eq!(numbered(&text("7"), index), text("7"));
    assert_eq!(request(&numbered(&text("eth1"), index)), Err(Misread::Value("endpoint".into())));
    assert!(request(&text("7")).is_ok());
}
