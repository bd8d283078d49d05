//! The walk through the states, and what holds on every walk.

use proptest::prelude::*;

use super::*;
use crate::message::Provided;
use crate::reply::tests::{MAC, reply};

const PACING: Pacing = Pacing {
    timeout: Duration::from_secs(10),
    resend_max: Duration::from_secs(62),
    give_up: Duration::from_secs(208),
};
const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0, 0xfe]);
const ADDRESS: [u8; 4] = [10, 0, 0, 9];
const OFFER: u8 = 2;
const ACK: u8 = 5;
const NAK: u8 = 6;
/// 120 s, T1 after 60, T2 after 105.
const OPTIONS: [(u8, &[u8]); 3] = [(54, &[10, 0, 0, 1]), (1, &[255, 255, 255, 0]), (51, &[0, 0, 0, 120])];

fn identity() -> Identity {
    let provide = vec![Provided { code: 12, value: "web".into() }];
    Identity { mac: MAC, client_id: "c/net/eth0".into(), provide, request: vec![1, 3], broadcast: false }
}

fn at(seconds: u64) -> Moment {
    Moment { now: Duration::from_secs(seconds), random: seconds.wrapping_mul(0x9e37_79b9_7f4a_7c15) }
}

/// The reply as a packet from the server's port to the client's.
fn packet(payload: &[u8]) -> Vec<u8> {
    let mut packet = frame::packet([10, 0, 0, 1].into(), Ipv4Addr::BROADCAST, payload);
    packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
    packet
}

impl Client {
    fn answer(&mut self, kind: u8, address: [u8; 4], when: Moment) -> Vec<Effect> {
        let xid = self.xid().unwrap_or_default();
        self.receive(&packet(&reply(xid, kind, address, &OPTIONS)), SERVER_MAC, when)
    }
}

/// Who it is sent to: Ethernet, IPv4; and from which IPv4 address.
fn sent(effects: &[Effect]) -> (Mac, Ipv4Addr, Ipv4Addr) {
    let [Effect::Send(Outgoing { to, packet })] = effects else { panic!("not one message: {effects:?}") };
    let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
    (*to, address(16), address(12))
}

fn bound() -> Client {
    let mut client = Client::new(identity(), PACING, at(0));
    client.advance(at(0));
    client.answer(OFFER, ADDRESS, at(0));
    assert_eq!(client.answer(ACK, ADDRESS, at(0)), [Effect::Granted]);
    client
}

#[test]
fn four_messages_make_a_lease() {
    let mut client = Client::new(identity(), PACING, at(0));
    let everyone = (BROADCAST, Ipv4Addr::BROADCAST, Ipv4Addr::UNSPECIFIED);
    assert_eq!(sent(&client.advance(at(0))), everyone);
    assert_eq!(sent(&client.answer(OFFER, ADDRESS, at(0))), everyone);
    assert!(client.lease().is_none() && client.listens());
    assert_eq!(client.answer(ACK, ADDRESS, at(0)), [Effect::Granted]);
    assert_eq!(client.lease().unwrap().terms.address, Ipv4Addr::from(ADDRESS));
    assert!(!client.listens());
}

#[test]
fn a_lease_is_renewed_by_its_server_at_t1() {
    let mut client = bound();
    assert_eq!(client.due(), Some(Duration::from_secs(60)));
    let unicast = (SERVER_MAC, [10, 0, 0, 1].into(), ADDRESS.into());
    assert_eq!(sent(&client.advance(at(60))), unicast);
    assert_eq!(client.answer(ACK, ADDRESS, at(61)), [Effect::Granted]);
    assert_eq!(client.due(), Some(Duration::from_secs(120)));
}

#[test]
fn any_server_may_rebind_it_from_t2_until_it_expires() {
    let mut client = bound();
    client.advance(at(60));
    assert_eq!(client.due(), Some(Duration::from_secs(105)));
    assert_eq!(sent(&client.advance(at(105))), (BROADCAST, Ipv4Addr::BROADCAST, ADDRESS.into()));
    assert_eq!(client.due(), Some(Duration::from_secs(120)));
    let mut other = client.clone();
    assert_eq!(client.answer(ACK, ADDRESS, at(110)), [Effect::Granted]);
    assert_eq!(other.advance(at(120)), [Effect::Lost(Loss::Expired)]);
    assert!(other.has_ended() && other.due().is_none());
}

#[test]
fn a_lease_that_is_refused_or_changed_is_lost() {
    let renewing = || {
        let mut client = bound();
        client.advance(at(60));
        client
    };
    assert_eq!(renewing().answer(NAK, [0; 4], at(61)), [Effect::Lost(Loss::Refused(None))]);
    let changed = Effect::Lost(Loss::Changed([10, 0, 0, 10].into()));
    assert_eq!(renewing().answer(ACK, [10, 0, 0, 10], at(61)), [changed]);
}

#[test]
fn after_a_restart_the_server_is_asked_and_silence_keeps_the_lease() {
    let lease = bound().lease().cloned().unwrap();
    let (mut client, effects) = Client::resume(identity(), PACING, lease.clone(), at(30));
    assert_eq!(sent(&effects).0, BROADCAST);
    let mut refused = client.clone();
    assert!(matches!(refused.answer(NAK, [0; 4], at(31))[..], [Effect::Lost(Loss::Refused(_))]));
    while client.due().is_some_and(|due| due < Duration::from_secs(60)) {
        client.advance(Moment { now: client.due().unwrap(), random: 1 });
    }
    assert_eq!((client.lease(), client.due()), (Some(&lease), Some(Duration::from_secs(60))));
    let (gone, effects) = Client::resume(identity(), PACING, lease, at(120));
    assert_eq!((gone.has_ended(), effects), (true, vec![Effect::Lost(Loss::Expired)]));
}

#[test]
fn what_is_not_an_answer_to_this_client_changes_nothing() {
    let mut client = Client::new(identity(), PACING, at(0));
    client.advance(at(0));
    let before = client.state.clone();
    let other_xid = packet(&reply(client.xid().unwrap() ^ 1, OFFER, ADDRESS, &OPTIONS));
    let mut other_mac = reply(client.xid().unwrap(), OFFER, ADDRESS, &OPTIONS);
    other_mac[28] ^= 4;
    for stray in [other_xid, packet(&other_mac), packet(b""), Vec::new()] {
        assert!(client.receive(&stray, SERVER_MAC, at(0)).is_empty());
    }
    assert!(client.answer(ACK, ADDRESS, at(0)).is_empty());
    assert_eq!(client.state, before);
}

#[test]
fn release_goes_to_the_server_and_ends_the_client() {
    let mut client = bound();
    let Outgoing { to, packet } = client.release(at(5)).unwrap();
    assert_eq!((to, &packet[16..20]), (SERVER_MAC, &[10, 0, 0, 1][..]));
    assert!(client.has_ended() && client.release(at(6)).is_none());
}

#[test]
fn without_a_server_it_gives_up_in_time() {
    let mut client = Client::new(identity(), PACING, at(0));
    let (mut messages, mut random) = (0, 1u64);
    let end = loop {
        let now = client.due().unwrap();
        random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
        match &client.advance(Moment { now, random })[..] {
            [Effect::Send(_)] => messages += 1,
            [Effect::GaveUp] => break now,
            other => assert!(other.is_empty(), "{other:?}"),
        }
    };
    assert_eq!((end, client.due()), (PACING.give_up, None));
    assert!((20..60).contains(&messages), "{messages}");
}

#[derive(Debug, Clone)]
enum Input {
    Wait(u64),
    UntilDue,
    Answer(u8, u8),
    Stray(Vec<u8>),
    Restart,
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        (0u64..200_000).prop_map(Input::Wait),
        Just(Input::UntilDue),
        (prop_oneof![Just(OFFER), Just(ACK), Just(NAK)], 9u8..11)
            .prop_map(|(kind, host)| Input::Answer(kind, host)),
        prop::collection::vec(0u8.., 0..400).prop_map(Input::Stray),
        Just(Input::Restart),
    ]
}

impl Client {
    fn take(&mut self, input: &Input, when: &mut Moment) -> Vec<Effect> {
        match input {
            Input::Wait(time) => when.now += Duration::from_millis(*time),
            Input::UntilDue => when.now = self.due().unwrap_or_default().max(when.now),
            Input::Answer(kind, host) => return self.answer(*kind, [10, 0, 0, *host], *when),
            Input::Stray(bytes) => return self.receive(&packet(bytes), SERVER_MAC, *when),
            Input::Restart => {
                let Some(lease) = self.lease().cloned() else { return Vec::new() };
                let (client, effects) = Self::resume(identity(), PACING, lease, *when);
                *self = client;
                return effects;
            }
        }
        self.advance(*when)
    }
}

proptest! {
    #[test]
    fn on_every_walk_a_lease_in_hand_is_valid_and_nothing_spins(
        inputs in prop::collection::vec(input(), 0..60), seed: u64,
    ) {
        let mut client = Client::new(identity(), PACING, at(0));
        let mut when = Moment { now: Duration::ZERO, random: seed };
        let mut ended = false;
        for input in &inputs {
            when.random = when.random.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
            let effects = client.take(input, &mut when);
            prop_assert!(!ended || effects.is_empty(), "after the end: {effects:?}");
            ended = client.has_ended();
            let ends = effects.iter().any(|effect| matches!(effect, Effect::Lost(_) | Effect::GaveUp));
            prop_assert!(!ends || ended);
            prop_assert_eq!(effects.contains(&Effect::Granted), effects.contains(&Effect::Granted) && client.lease().is_some());
            client.advance(when);
            prop_assert!(client.due().is_none_or(|due| due > when.now), "due in the past");
            if let Some(end) = client.lease().and_then(Lease::expires) {
                prop_assert!(end > when.now, "an expired lease in hand");
            }
            ended = client.has_ended();
            prop_assert_eq!(ended, client.due().is_none());
        }
    }
}
