//! Zones of the operator's own.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use tempfile::TempDir;
use zeugma_dns::server::{ZoneError, Zones};
use zeugma_dns::zone::Upstreams;

use super::upstream::{Upstream, absence, addresses};
use super::{Served, client, received, request, request_with_edns, served_with, text};

const ZONE: &str = r#"$TTL 300
@       SOA   ns admin ( 1 3600 600 86400 30 )
@       NS    ns
@       MX    10 mail
@       TXT   "v=spf1 mx -all" "second"
ns      A     192.0.2.53
mail    A     192.0.2.25
mail    AAAA  2001:db8::25
www     CNAME web
web     CNAME mail
dangling CNAME none
loop    CNAME pool
pool    CNAME loop
out     CNAME www.example.org.
container CNAME web.zeugma.internal.
_sip._tcp 60 SRV 1 2 5060 mail
*.wild  A     192.0.2.80
a.b     TXT   "below b"
sub     NS    ns.sub
ns.sub  A     192.0.2.54
"#;

/// A file with a zone, and the zone as the agent is told of it.
fn zone(text: &str) -> (TempDir, Result<Zones, ZoneError>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("corp.zone");
    fs::write(&path, text).unwrap();
    let zones = Zones::open(vec![format!("corp.example={}", path.display()).parse().unwrap()]);
    (dir, zones)
}

fn served_zone(last: u8, upstreams: Upstreams) -> Served {
    served_with(last, upstreams, zone(ZONE).1.unwrap())
}

fn internal() -> Upstreams {
    Upstreams { internal: true, ..Upstreams::default() }
}

/// Code and answers, the flag AA in front.
fn own(message: &Message) -> String {
    assert!(message.metadata.recursion_available);
    format!("{}{}", if message.metadata.authoritative { "AA " } else { "" }, text(message))
}

#[test]
fn records_of_every_kind_are_answered_even_on_internal_networks() {
    let served = served_zone(40, internal());
    let check = |name: &str, kind: &str, expected: &str| {
        assert_eq!(own(&served.ask(name, kind)), format!("AA No Error; {expected}"), "{name} {kind}");
    };
    check("MAIL.corp.Example.", "A", "MAIL.corp.Example. 300 IN A 192.0.2.25");
    check("mail.corp.example.", "AAAA", "mail.corp.example. 300 IN AAAA 2001:db8::25");
    check("corp.example.", "MX", "corp.example. 300 IN MX 10 mail.corp.example.");
    check("corp.example.", "TXT", "corp.example. 300 IN TXT v=spf1 mx -allsecond");
    check("_sip._tcp.corp.example.", "SRV", "_sip._tcp.corp.example. 60 IN SRV 1 2 5060 mail.corp.example.");
    let soa = served.ask("corp.example.", "SOA");
    assert_eq!((soa.answers.len(), soa.answers[0].record_type()), (1, RecordType::SOA));
    let mx = served.ask("corp.example.", "MX");
    assert_eq!(mx.additionals.iter().map(|record| record.ttl).collect::<Vec<_>>(), [300, 300]);
    let any = served.ask("mail.corp.example.", "ANY");
    assert_eq!(any.answers[0].record_type(), RecordType::HINFO);
}

#[test]
fn what_is_not_there_is_denied_with_the_zones_soa_for_its_minimum() {
    let served = served_zone(41, internal());
    let absences = [
        ("none.corp.example.", "A", "AA Non-Existent Domain"),
        ("none.mail.corp.example.", "A", "AA Non-Existent Domain"),
        ("mail.corp.example.", "MX", "AA No Error"),
        ("b.corp.example.", "A", "AA No Error"),
    ];
    for (name, kind, expected) in absences {
        let answer = served.ask(name, kind);
        assert_eq!(own(&answer), expected, "{name}");
        let [soa] = &answer.authorities[..] else { panic!("{answer}") };
        assert_eq!(
            (soa.name.to_string(), soa.record_type(), soa.ttl),
            ("corp.example.".to_owned(), RecordType::SOA, 30)
        );
    }
    assert_eq!(own(&served.ask("none.acorp.example.", "A")), "AA Non-Existent Domain");
}

#[test]
fn a_wildcard_stands_for_names_that_are_not_there() {
    let served = served_zone(42, internal());
    for name in ["x.wild.corp.example.", "a.b.c.wild.corp.example."] {
        assert_eq!(own(&served.ask(name, "A")), format!("AA No Error; {name} 300 IN A 192.0.2.80"));
        // A client that is told of no name for AAAA takes no A, either.
        assert_eq!(own(&served.ask(name, "AAAA")), "AA No Error");
    }
}

#[test]
fn aliases_are_followed_within_the_zone_to_containers_and_outside() {
    let upstream = Upstream::start(43, |question, _| Some(addresses(question, 60, 1)));
    let served = served_zone(43, Upstreams { servers: vec![upstream.address], ..Upstreams::default() });
    let check = |name: &str, expected: &[&str]| {
        let answer = served.ask(&format!("{name}.corp.example."), "A");
        let found: Vec<_> =
            answer.answers.iter().map(|record| format!("{} {}", record.ttl, record.data)).collect();
        assert_eq!(
            (found.iter().map(String::as_str).collect::<Vec<_>>(), answer.metadata.authoritative),
            (expected.to_vec(), true)
        );
        answer.metadata.response_code.to_string()
    };
    assert_eq!(
        check("www", &["300 web.corp.example.", "300 mail.corp.example.", "300 192.0.2.25"]),
        "No Error"
    );
    assert_eq!(check("container", &["300 web.zeugma.internal.", "5 10.88.0.5"]), "No Error");
    assert_eq!(check("out", &["300 www.example.org.", "60 192.0.2.1"]), "No Error");
    assert_eq!(check("dangling", &["300 none.corp.example."]), "Non-Existent Domain");
    assert_eq!(check("loop", &["300 pool.corp.example.", "300 loop.corp.example."]), "No Error");
    assert_eq!(upstream.asked(), 1);
    let alias = served.ask("www.corp.example.", "CNAME");
    assert_eq!(own(&alias), "AA No Error; www.corp.example. 300 IN CNAME web.corp.example.");
}

#[test]
fn a_delegation_is_referred_to() {
    let served = served_zone(44, internal());
    let referral = served.ask("www.sub.corp.example.", "A");
    assert_eq!(own(&referral), "No Error");
    assert_eq!(referral.authorities[0].to_string(), "sub.corp.example. 300 IN NS ns.sub.corp.example.");
}

#[test]
fn containers_come_first_and_zones_before_the_outside() {
    let upstream = Upstream::start(45, |question, _| Some(absence(question)));
    let (dir, _) = zone(ZONE);
    let path = dir.path().join("corp.zone");
    let files = ["web", "zeugma.internal", "example"].map(|origin| format!("{origin}={}", path.display()));
    let zones = Zones::open(files.iter().map(|file| file.parse().unwrap()).collect()).unwrap();
    let upstreams = Upstreams { servers: vec![upstream.address], ..Upstreams::default() };
    let served = served_with(45, upstreams, zones);
    assert_eq!(text(&served.ask("web.", "A")), "No Error; web. 5 IN A 10.88.0.5");
    assert_eq!(text(&served.ask("mail.zeugma.internal.", "A")), "Non-Existent Domain");
    assert_eq!(text(&served.ask("mail.web.", "A")), "No Error; mail.web. 300 IN A 192.0.2.25");
    assert_eq!(text(&served.ask("example.", "MX")), "No Error; example. 300 IN MX 10 mail.example.");
    assert_eq!((upstream.asked(), served.resolver.stats().zone_answers), (0, 2));
}

#[test]
fn what_is_too_long_for_a_datagram_comes_over_tcp() {
    let many: String = (1..=100).map(|last| format!("many A 192.0.2.{last}\n")).collect();
    let served = served_with(46, internal(), zone(&format!("{ZONE}{many}")).1.unwrap());
    let cut = served.ask("many.corp.example.", "A");
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    let mut stream = TcpStream::connect(served.address).unwrap();
    let question = request(1, "many.corp.example.", "A");
    stream.write_all(&u16::try_from(question.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&question).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 100);
}

#[test]
fn additional_records_are_left_out_where_there_is_no_room() {
    let many: String = (1..=30).map(|last| format!("big A 192.0.2.{last}\n")).collect();
    let served =
        served_with(47, internal(), zone(&format!("{ZONE}@ MX 20 big\n{many}x MX 5 big\n")).1.unwrap());
    let plain = served.ask("x.corp.example.", "MX");
    assert_eq!((plain.metadata.truncation, plain.answers.len(), plain.additionals.len()), (false, 1, 0));
    let client = client();
    client.send_to(&request_with_edns(1232, "x.corp.example.", "MX"), served.address).unwrap();
    let large = received(&client);
    assert!(large.additionals.len() == 30 && large.edns.is_some(), "{large}");
}

#[test]
fn who_asks_too_much_of_zones_is_refused() {
    let served = served_zone(48, internal());
    let client = client();
    // As many at once that some wait, or so often that it is too many a second: whichever the machine is fit for.
    served.until(|stats| {
        for id in 0..100 {
            client.send_to(&request(id, "none.corp.example.", "A"), served.address).unwrap();
        }
        (0..100).for_each(|_| drop(received(&client)));
        stats.limited > 0
    });
    assert_eq!(text(&served.ask("web.", "A")), "No Error; web. 5 IN A 10.88.0.5");
}

#[test]
fn a_file_is_read_again_and_a_wrong_one_leaves_the_zone_as_it_was() {
    let (dir, zones) = zone(ZONE);
    let (path, served) = (dir.path().join("corp.zone"), served_with(49, internal(), zones.unwrap()));
    let mail = || text(&served.ask("mail.corp.example.", "A"));
    let before = mail();
    fs::write(&path, ZONE.replace("192.0.2.25", "192.0.2.256")).unwrap();
    served.until(|_| !served.resolver.zone_problems().is_empty());
    let problem = served.resolver.zone_problems().remove(0);
    let place = format!("zone file {}, line 7: ", path.display());
    assert!(problem.starts_with(&place) && problem.contains("served as it was before"), "{problem}");
    assert_eq!(mail(), before);
    fs::write(&path, ZONE.replace("192.0.2.25", "192.0.2.26")).unwrap();
    served.until(|_| mail() == "No Error; mail.corp.example. 300 IN A 192.0.2.26");
    assert_eq!(served.resolver.zone_problems(), [""; 0]);
    fs::remove_file(&path).unwrap();
    served.until(|_| served.resolver.zone_problems().iter().any(|problem| problem.contains("cannot read")));
}

#[test]
fn what_cannot_be_served_is_told_at_the_start() {
    let error = |text: &str| zone(text).1.unwrap_err().to_string();
    assert!(error("@ 60 A 192.0.2.1\n").contains("no SOA record for corp.example.: begin it with `@ 60 SOA"));
    assert!(error(&format!("{ZONE}more A\n")).contains("corp.zone, line 21: "));
    assert!(error(&format!("{ZONE}{}", ";\n".repeat(3 << 20))).contains("is longer than 4194304 bytes"));
    let form = |text: &str| text.parse::<zeugma_dns::server::ZoneFile>().map(drop).unwrap_err().to_string();
    for wrong in ["corp.example", "corp.example=", "=file", ".=file", "a..b=file"] {
        assert!(form(wrong).contains("write ORIGIN=FILE"), "{wrong}");
    }
    let twice = ["a.example=/nonexistent", "a.example=/nonexistent"].map(|file| file.parse().unwrap());
    assert!(
        Zones::open(twice.into()).unwrap_err().to_string().contains("cannot read the zone file /nonexistent")
    );
}
