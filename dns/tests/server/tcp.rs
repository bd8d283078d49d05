//! Streams: one peer never keeps the others from being served.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use hickory_proto::op::Message;
use zeugma_dns::zone::{Snapshot, Upstreams};

use super::upstream::{Upstream, addresses, pause};
use super::{PATIENCE, Served, request, served, text};

pub(super) fn connected(served: &Served) -> TcpStream {
    let stream = TcpStream::connect(served.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

pub(super) fn answer(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut bytes).unwrap();
    Message::from_vec(&bytes).unwrap()
}

/// Whether the server has ended the connection, whichever way.
fn is_over(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 1024]) {
        Ok(0) => true,
        Ok(_) => is_over(stream),
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn what_does_not_fit_a_datagram_fits_a_stream() {
    let served = served(40, Upstreams::default());
    let mut stream = connected(&served);
    stream.write_all(&framed(&request(1, "crowd.", "A"))).unwrap();
    assert_eq!(answer(&mut stream).answers.len(), 100);
}

#[test]
fn questions_may_come_in_a_row_and_a_slow_one_holds_up_none() {
    let upstream = Upstream::start(41, |question, _| {
        pause(Duration::from_millis(300));
        Some(addresses(question, 60, 1))
    });
    let upstreams = Upstreams { servers: vec![upstream.address], ..Upstreams::default() };
    let served = served(41, upstreams);
    let mut stream = connected(&served);
    let slow = framed(&request(100, "www.example.", "A"));
    let quick: Vec<u8> = (0..40).flat_map(|id| framed(&request(id, "web.", "A"))).collect();
    stream.write_all(&[slow, quick].concat()).unwrap();
    // A peer that has closed its side still gets all answers.
    stream.shutdown(Shutdown::Write).unwrap();
    let ids: Vec<_> = (0..41).map(|_| answer(&mut stream).metadata.id).collect();
    assert_eq!(ids, (0..40).chain([100]).collect::<Vec<_>>());
    assert!(is_over(&mut stream));
    served.until(|stats| stats.tcp_open == 0);
}

/// CVE-2024-8418: in aardvark-dns one silent client kept all others waiting.
#[test]
fn silent_connections_keep_nobody_waiting() {
    let served = served(42, Upstreams::default());
    let _silent: Vec<_> = (0..10).map(|_| connected(&served)).collect();
    let mut half = connected(&served);
    half.write_all(&framed(&request(1, "web.", "A"))[..7]).unwrap();
    served.until(|stats| stats.tcp_open == 11);
    let mut stream = connected(&served);
    stream.write_all(&framed(&request(2, "web.", "A"))).unwrap();
    assert_eq!(answer(&mut stream).metadata.id, 2);
    assert_eq!(text(&served.ask("web.", "A")), "No Error; web. 5 IN A 10.88.0.5");
}

#[test]
fn silent_connections_are_closed() {
    let served = served(43, Upstreams::default());
    let mut silent = connected(&served);
    let mut half = connected(&served);
    half.write_all(&[0]).unwrap();
    assert!(is_over(&mut silent) && is_over(&mut half));
    served.until(|stats| (stats.tcp_open, stats.tcp_cut) == (0, 2));
}

/// CVE-2026-35406: in aardvark-dns a connection that failed was tried again for ever. Here its task has ended.
#[test]
fn a_connection_that_fails_is_over() {
    let served = served(44, Upstreams::default());
    for count in 1..=50 {
        let mut stream = connected(&served);
        stream.write_all(&framed(&request(1, "crowd.", "A")).repeat(20)).unwrap();
        served.until(|stats| stats.tcp_connections == count);
        // Closing with answers unread resets the connection.
        drop(stream);
        served.until(|stats| stats.tcp_open == 0);
    }
    assert_eq!(text(&served.ask("web.", "A")), "No Error; web. 5 IN A 10.88.0.5");
}

#[test]
fn who_does_not_take_answers_does_not_get_to_ask() {
    let served = served(45, Upstreams::default());
    let mut stream = connected(&served);
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let questions = framed(&request(1, "crowd.", "A")).repeat(1000);
    // Until the server stops reading, and then cuts it off.
    while stream.write_all(&questions).is_ok() {}
    served.until(|stats| (stats.tcp_open, stats.tcp_cut) == (0, 1));
    assert_eq!(text(&served.ask("web.", "A")), "No Error; web. 5 IN A 10.88.0.5");
}

#[test]
fn one_client_has_so_many_connections_and_no_more() {
    let served = served(46, Upstreams::default());
    let mut streams: Vec<_> = (0..20).map(|_| connected(&served)).collect();
    served.until(|stats| (stats.tcp_open, stats.tcp_refused) == (16, 4));
    assert!(streams[16..].iter_mut().all(is_over));
    drop(streams);
    served.until(|stats| stats.tcp_open == 0);
    connected(&served);
    served.until(|stats| stats.tcp_connections == 17);
}

#[test]
fn nonsense_and_strangers_are_shown_out() {
    let served = served(47, Upstreams::default());
    for nonsense in [framed(b"short"), vec![0xff; 100]] {
        let mut stream = connected(&served);
        stream.write_all(&nonsense).unwrap();
        assert!(is_over(&mut stream));
    }
    served.resolver.publish(Snapshot::default());
    assert!(is_over(&mut connected(&served)));
    assert_eq!(served.resolver.stats().tcp_refused, 1);
}
