//! A resolver with many names, for the benchmark: `names ADDRESS:PORT COUNT`.
//!
//! Says `ready` on standard output with the milliseconds that making the names took, and ends when standard input does.

use std::io::Read;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Instant;

use zeugma_dns::server::{Audience, Listener, Resolver, Settings};
use zeugma_dns::zone::{Member, Network, Snapshot, Upstreams};
use zeugma_model::AttachmentId;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let mut words = std::env::args().skip(1);
    let (Some(address), Some(count)) = (words.next(), words.next()) else {
        return Err("usage: names ADDRESS:PORT COUNT".into());
    };
    let (address, count): (SocketAddr, u32) = (address.parse()?, count.parse()?);
    let began = Instant::now();
    let snapshot = (0..count)
        .try_fold(network()?, |snapshot, number| Ok::<_, Error>(snapshot.with_member(member(number)?)))?;
    let took = began.elapsed();
    let resolver = Resolver::start(Settings { resolv_conf: "/etc/resolv.conf".into() })?;
    resolver.publish(snapshot);
    let audience = Audience::Network("podman".parse()?);
    resolver.listen(Listener {
        audience,
        udp: UdpSocket::bind(address)?,
        tcp: TcpListener::bind(address)?,
    })?;
    println!("ready {}", took.as_millis());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn network() -> Result<Snapshot, Error> {
    Ok(Snapshot::default().with_network(Network {
        name: "podman".parse()?,
        domain: "dns.podman".to_owned(),
        subnets: vec!["10.88.0.0/14".parse()?],
        upstreams: Upstreams::default(),
    }))
}

/// `cN` with an address of each family; the identifiers are as long as those of real containers.
fn member(number: u32) -> Result<Member, Error> {
    let attachment = AttachmentId {
        network: "podman".parse()?,
        container: format!("{number:064x}").parse()?,
        ifname: "eth0".parse()?,
    };
    let v4 = IpAddr::from((u32::from(std::net::Ipv4Addr::new(10, 88, 1, 0)) + number).to_be_bytes());
    let v6 = IpAddr::from(Ipv6Addr::from(0xfd88 << 112 | u128::from(number) + 2));
    let names = vec![
        format!("c{number}").parse()?,
        format!("{number:064x}").parse().or_else(|_| format!("{number:012x}").parse())?,
    ];
    Ok(Member { attachment, names, aliases: Vec::new(), addresses: vec![v4, v6] })
}
