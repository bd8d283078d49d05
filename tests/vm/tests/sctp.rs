//! `portmap` with protocol `sctp`: associations reach the container, in both families, until DEL.

use anyhow::ensure;
use netns_fixtures::run;
use zeugma_tests::stage::{Stage, bridge, network, portmap, refusal};

#[test]
fn a_published_sctp_port_answers_in_both_families_until_del() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, network("net", &[bridge(0), portmap()])?);
        let web = stage.publishing(&["8080:80/sctp"])?;
        chain.add(&stage.host, &web)?;
        let _server = web.container().sctp_echo("[::]:80", "web")?;
        assert_eq!(stage.client.ask_sctp("192.0.2.1:8080")?, "web 192.0.2.2");
        assert_eq!(stage.client.ask_sctp("[2001:db8:1::1]:8080")?, "web 2001:db8:1::2");
        chain.check(&stage.host, &web)?;
        chain.del(&stage.host, &web)?;
        for port in ["192.0.2.1:8080", "[2001:db8:1::1]:8080"] {
            ensure!(stage.client.ask_sctp(port).is_err(), "{port} answers after DEL");
        }
        Ok(())
    });
}

#[test]
fn a_port_of_sctp_and_of_tcp_are_two() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, network("net", &[bridge(0), portmap()])?);
        let (one, two) = (stage.publishing(&["8080:80/sctp"])?, stage.publishing(&["8080:80/tcp"])?);
        chain.add(&stage.host, &one)?;
        chain.add(&stage.host, &two)?;
        let _one = one.container().sctp_echo("[::]:80", "one")?;
        let _two = two.container().tcp_echo("[::]:80", "two")?;
        assert_eq!(stage.client.ask_sctp("192.0.2.1:8080")?, "one 192.0.2.2");
        assert_eq!(stage.client.ask_tcp("192.0.2.1:8080")?, "two 192.0.2.2");
        let third = stage.publishing(&["192.0.2.1:8080:80/sctp"])?;
        assert_eq!(refusal(chain.add(&stage.host, &third)).code, 101);
        Ok(())
    });
}

#[test]
fn neighbours_reach_a_published_sctp_port_through_the_host() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, network("net", &[bridge(0), portmap()])?);
        let (web, neighbour) = (stage.publishing(&["8080:80/sctp"])?, stage.container()?);
        chain.add(&stage.host, &web)?;
        chain.add(&stage.host, &neighbour)?;
        let _server = web.container().sctp_echo("[::]:80", "web")?;
        let answer = neighbour.container().ask_sctp("192.0.2.1:8080")?;
        ensure!(answer.starts_with("web "), "{answer}");
        Ok(())
    });
}
