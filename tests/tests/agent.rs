//! `zeugma agent`: names and listeners follow the journal, whatever happens to the agent. What the resolver answers in
//! detail is promised in `dns`, what its plugin writes in resolver.rs.

use std::fs;
use std::thread;

use anyhow::{Result, ensure};
use netns_fixtures::{Chain, Host, eventually, run};
use serde_json::{Value, json};
use zeugma_tests::agent::{Agent, SOON, command, dig, ensure_told};
use zeugma_tests::bin_dir;
use zeugma_tests::keeper::Keeper;
use zeugma_tests::stage::{Stage, address, bridge, network, with};

fn resolver() -> Value {
    json!({"type": "resolver", "capabilities": {"aliases": true, "dns": true}})
}

/// A network with names on bridge `brN`, whose containers ask at its gateways.
fn named(number: u8) -> Result<Chain> {
    network(&format!("net{number}"), &[bridge(number), resolver()])
}

/// A network whose containers ask at 127.0.0.11.
fn inside(number: u8) -> Result<Chain> {
    network(
        &format!("net{number}"),
        &[json!({"type": "loopback"}), bridge(number), with(resolver(), json!({"mode": "container"}))],
    )
}

fn listens_at(agent: &Agent, places: usize) -> Result<()> {
    let is_so = || agent.status().is_ok_and(|status| status["listeners"] == places);
    ensure!(eventually(SOON, is_so), "{:?} {}", agent.status(), agent.process.log());
    Ok(())
}

#[test]
fn a_name_answers_at_the_gateways_from_add_to_del() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let (chain, one, two) = (named(0)?, stage.container()?, stage.container()?);
        let result = chain.add(&stage.host, &one)?;
        chain.add(&stage.host, &two)?;
        for question in ["c0.zeugma.internal", "c0.zeugma.internal +tcp", "c0.net0", "C0 +search +ndots=9"] {
            ensure_told(two.container(), "10.88.0.1", question, &[address(&result, 4)?])?;
        }
        let v6 = [address(&result, 6)?];
        ensure_told(two.container(), "2001:db8:88::1", "c0.zeugma.internal AAAA", &v6)?;
        chain.del(&stage.host, &one)?;
        ensure_told(two.container(), "10.88.0.1", "c0.zeugma.internal", &[])?;
        chain.del(&stage.host, &two)?;
        listens_at(&agent, 0)
    });
}

#[test]
fn a_container_may_ask_at_127_0_0_11() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let (chain, one, two) = (inside(0)?, stage.container()?, stage.container()?);
        let result = chain.add(&stage.host, &one)?;
        chain.add(&stage.host, &two)?;
        for question in ["c0.zeugma.internal", "c0.zeugma.internal +tcp"] {
            ensure_told(two.container(), "127.0.0.11", question, &[address(&result, 4)?])?;
        }
        ensure!(dig(&stage.host, "10.88.0.1", "+time=1 +tries=1 c0.zeugma.internal").is_err());
        chain.del(&stage.host, &two)?;
        listens_at(&agent, 1)
    });
}

#[test]
fn a_container_that_dies_without_del_is_left_and_its_namespace_ends() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let (chain, one) = (inside(0)?, stage.container()?);
        chain.add(&stage.host, &one)?;
        listens_at(&agent, 1)?;
        let ports =
            || stage.host.ip_json("link show master br0").map(|links| links.as_array().map_or(0, Vec::len));
        assert_eq!(ports()?, 1);
        one.container().remove()?;
        // The veth pair goes with the namespace, which a socket would hold.
        ensure!(eventually(SOON, || ports().is_ok_and(|ports| ports == 0)), "{}", agent.process.log());
        listens_at(&agent, 0)
    });
}

#[test]
fn two_networks_with_one_gateway_are_told_of_and_the_first_keeps_it() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let other =
            network("a-late", &[with(bridge(0), json!({"bridge": "br9", "ipMasq": false})), resolver()])?;
        let (chain, one, two) = (named(0)?, stage.container()?, stage.container()?);
        let expected = [address(&chain.add(&stage.host, &one)?, 4)?];
        other.add(&stage.host, &two)?;
        let problems = || agent.status().map(|status| status["problems"].to_string());
        let conflict = "10.88.0.1:53: the networks a-late, net0 have this address";
        ensure!(
            eventually(SOON, || problems().is_ok_and(|told| told.contains(conflict))),
            "{:?}",
            problems()
        );
        ensure_told(one.container(), "10.88.0.1", "c0.net0", &expected)?;
        other.del(&stage.host, &two)?;
        ensure!(eventually(SOON, || problems().is_ok_and(|told| told == "null")), "{:?}", problems());
        ensure_told(one.container(), "10.88.0.1", "c0.net0", &expected)
    });
}

#[test]
fn the_socket_tells_all_names_and_answers_for_them() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let (chain, one) = (named(0)?, stage.container()?.with(json!({"aliases": {"net0": ["web"]}})));
        let v4 = address(&chain.add(&stage.host, &one)?, 4)?;
        ensure_told(one.container(), "10.88.0.1", "web.net0", std::slice::from_ref(&v4))?;
        listens_at(&agent, 2)?;
        let (_, dump) = agent.get("/v1/dns")?;
        let net = &dump["networks"][0];
        ensure!(
            net["network"] == "net0" && net["listeners"] == json!(["10.88.0.1:53", "[2001:db8:88::1]:53"])
        );
        ensure!(net["names"][1]["name"] == "web" && net["names"][1]["addresses"][0] == v4, "{dump}");
        let (_, found) = agent.get("/v1/dns/query?name=web.zeugma.internal&type=a&network=net0")?;
        let record = json!({"name": "web.zeugma.internal.", "ttl": 5, "type": "A", "data": v4});
        assert_eq!(found, json!({"code": "NOERROR", "records": [record]}));
        assert_eq!(agent.get("/v1/dns/query?name=web.zeugma.internal&network=other")?.0, 404);
        for wrong in ["?name=web&type=nonsense", "", "?name=web&network=.."] {
            assert_eq!(agent.get(&format!("/v1/dns/query{wrong}"))?.0, 400, "{wrong}");
        }
        Ok(())
    });
}

/// A zone of the operator's in a file.
const ZONE: &str = "$TTL 60\n@ SOA ns admin 1 60 60 60 60\n@ MX 10 mail\nmail A 192.0.2.25\n\
    shop CNAME c0.zeugma.internal.\n";

#[test]
fn a_zone_of_ones_own_is_served_beside_the_containers_and_read_again() {
    run(|world| {
        let stage = Stage::new(world)?;
        let file = stage.host.run_dir().join("corp.zone");
        fs::write(&file, ZONE)?;
        let zone = format!("corp.example={}", file.display());
        let agent = Agent::run(&stage.host, command(&stage.host).args(["--zone", &zone]))?;
        let (chain, one) = (named(0)?, stage.container()?);
        let own = address(&chain.add(&stage.host, &one)?, 4)?;
        let ask = |question: &str| dig(one.container(), "10.88.0.1", question);
        assert_eq!(ask("corp.example MX")?, ["10 mail.corp.example."]);
        assert_eq!(ask("shop.corp.example +tcp")?, [own, "c0.zeugma.internal.".to_owned()]);
        fs::write(&file, format!("{ZONE}mail A nonsense\n"))?;
        let told = || agent.status().is_ok_and(|status| status["problems"].to_string().contains("line 6"));
        ensure!(eventually(SOON, told), "{}", agent.process.log());
        ensure!(agent.page("/metrics")?.1.contains("zeugma_agent_zones_failed 1"));
        fs::write(&file, ZONE.replace("192.0.2.25", "192.0.2.26"))?;
        let read = || ask("mail.corp.example").is_ok_and(|found| found == ["192.0.2.26"]);
        ensure!(eventually(SOON, read), "{}", agent.process.log());
        ensure!(agent.status()?["problems"].is_null(), "{}", agent.status()?);
        Ok(())
    });
}

#[test]
fn an_agent_with_a_wrong_zone_file_says_so_and_ends() {
    run(|world| {
        let stage = Stage::new(world)?;
        let file = stage.host.run_dir().join("corp.zone");
        fs::write(&file, format!("{ZONE}ftp A nonsense\n"))?;
        let zone = format!("corp.example={}", file.display());
        let wrong = command(&stage.host).args(["--zone", &zone]).output()?;
        let place = format!("zone file {}, line 6: ", file.display());
        ensure!(!wrong.status.success() && wrong.stderr.contains(&place), "{}", wrong.stderr);
        Ok(())
    });
}

#[test]
fn logs_may_be_json_lines() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::run(&stage.host, command(&stage.host).args(["--log-format", "json"]))?;
        named(0)?.add(&stage.host, &stage.container()?)?;
        let log = agent.process.log();
        let lines: Vec<Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let listening = |line: &&Value| line["message"] == "listening" && line["place"] == "10.88.0.1:53";
        ensure!(lines.iter().find(listening).is_some_and(|line| line["of"] == "network net0"), "{log}");
        Ok(())
    });
}

#[test]
fn a_socket_in_a_container_that_died_lets_its_namespace_go() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let (chain, one) = (inside(0)?, stage.container()?);
        chain.add(&stage.host, &one)?;
        listens_at(&agent, 1)?;
        one.container().remove()?;
        chain.del(&stage.host, &one)?;
        listens_at(&agent, 0)
    });
}

#[test]
fn an_agent_that_is_killed_is_replaced_by_the_next() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (gateway, container) = (named(0)?, inside(1)?);
        let (one, two) = (stage.container()?, stage.container()?);
        let first = Agent::start(&stage.host)?;
        let expected = [address(&gateway.add(&stage.host, &one)?, 4)?];
        container.add(&stage.host, &two)?;
        drop(first);
        ensure!(stage.host.run_dir().join("agent.sock").exists(), "it was not killed");
        let _second = Agent::start(&stage.host)?;
        assert_eq!(dig(one.container(), "10.88.0.1", "c0.zeugma.internal")?, expected);
        assert_eq!(dig(two.container(), "127.0.0.11", "c1.zeugma.internal")?.len(), 1);
        Ok(())
    });
}

#[test]
fn a_question_between_two_agents_is_answered_by_the_second() {
    run(|world| {
        let stage = Stage::new(world)?;
        let keeper = Keeper::new(&stage.host)?;
        let zeugma = format!("{} agent", bin_dir().join("zeugma").display());
        let first = Agent::run(&stage.host, keeper.service(&stage.host, &zeugma))?;
        let (chain, inside) = (named(0)?, inside(1)?);
        let (one, two) = (stage.container()?, stage.container()?);
        let expected = [address(&chain.add(&stage.host, &one)?, 4)?];
        inside.add(&stage.host, &two)?;
        let all = || keeper.kept().len() == 6;
        ensure!(eventually(SOON, all), "{:?}", keeper.lines());
        drop(first);
        let question = |from: &Host, at: &str, name: &str| {
            let (from, at, name) = (from.clone(), at.to_owned(), name.to_owned());
            thread::spawn(move || dig(&from, &at, &format!("+time=20 +tries=1 {name}")))
        };
        let asked = question(one.container(), "10.88.0.1", "c0.zeugma.internal");
        let inside = question(two.container(), "127.0.0.11", "c1.zeugma.internal");
        let waits = |host: &Host, port: &str| {
            let queue = || host.run(["ss", "-Hlnu"]).is_ok_and(|sockets| has_waiting(&sockets.stdout, port));
            eventually(SOON, queue)
        };
        ensure!(waits(&stage.host, "10.88.0.1:53") && waits(two.container(), "127.0.0.11:"), "not asked");
        let second = Agent::run(&stage.host, keeper.service(&stage.host, &zeugma))?;
        assert_eq!(asked.join().expect("no panic")?, expected, "{}", second.process.log());
        assert_eq!(inside.join().expect("no panic")?.len(), 1, "{}", second.process.log());
        Ok(())
    });
}

/// Whether something waits to be read in a socket at this address, in the words of `ss`.
fn has_waiting(sockets: &str, address: &str) -> bool {
    sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|fields| {
        fields.get(3).is_some_and(|at| at.starts_with(address))
            && fields.get(1).is_some_and(|bytes| *bytes != "0")
    })
}

#[test]
fn what_nobody_asks_at_any_more_the_service_manager_lets_go() {
    run(|world| {
        let stage = Stage::new(world)?;
        let keeper = Keeper::new(&stage.host)?;
        let zeugma = format!("{} agent", bin_dir().join("zeugma").display());
        let first = Agent::run(&stage.host, keeper.service(&stage.host, &zeugma))?;
        let (chain, one, inside, two) = (named(0)?, stage.container()?, inside(1)?, stage.container()?);
        chain.add(&stage.host, &one)?;
        inside.add(&stage.host, &two)?;
        ensure!(eventually(SOON, || keeper.kept().len() == 6), "{:?}", keeper.lines());
        inside.del(&stage.host, &two)?;
        ensure!(eventually(SOON, || keeper.kept().len() == 4), "{:?}", keeper.lines());
        drop(first);
        chain.del(&stage.host, &one)?;
        let _second = Agent::run(&stage.host, keeper.service(&stage.host, &zeugma))?;
        ensure!(eventually(SOON, || keeper.kept().is_empty()), "{:?}", keeper.lines());
        Ok(())
    });
}

#[test]
fn the_service_manager_hears_of_begin_end_and_life() {
    run(|world| {
        let stage = Stage::new(world)?;
        let keeper = Keeper::new(&stage.host)?;
        let zeugma = format!("{} agent", bin_dir().join("zeugma").display());
        let service = keeper.service(&stage.host, &zeugma).env("WATCHDOG_USEC", "200000");
        let agent = Agent::run(&stage.host, service)?;
        let heard = |line: &str, times| keeper.lines().iter().filter(|heard| *heard == line).count() >= times;
        ensure!(eventually(SOON, || heard("READY=1", 1) && heard("WATCHDOG=1", 3)), "{:?}", keeper.lines());
        stage.host.run(["kill", "-TERM", &agent.process.pid().to_string()])?;
        ensure!(eventually(SOON, || heard("STOPPING=1", 1)), "{:?}", keeper.lines());
        Ok(())
    });
}

#[test]
fn an_agent_that_comes_late_knows_all_names() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (chain, one) = (named(0)?, stage.container()?);
        let expected = [address(&chain.add(&stage.host, &one)?, 4)?];
        let _agent = Agent::start(&stage.host)?;
        assert_eq!(dig(one.container(), "10.88.0.1", "c0.zeugma.internal")?, expected);
        Ok(())
    });
}

#[test]
fn what_nobody_told_the_agent_it_finds_in_the_journal() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let socket = stage.host.run_dir().join("agent.sock");
        // The plugin finds no agent.
        fs::remove_file(&socket)?;
        let (chain, one) = (named(0)?, stage.container()?);
        let expected = [address(&chain.add(&stage.host, &one)?, 4)?];
        let found =
            || dig(one.container(), "10.88.0.1", "c0.zeugma.internal").is_ok_and(|found| found == expected);
        ensure!(eventually(SOON, found), "{}", agent.process.log());
        chain.del(&stage.host, &one)?;
        let gone = || agent.process.log().contains("no longer listening");
        ensure!(eventually(SOON, gone), "{}", agent.process.log());
        Ok(())
    });
}

#[test]
fn a_second_agent_is_refused_and_harms_nothing() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let second = command(&stage.host).output()?;
        ensure!(
            !second.status.success() && second.stderr.contains("another agent runs"),
            "{}",
            second.stderr
        );
        ensure!(agent.get("/v1/status")?.0 == 200);
        Ok(())
    });
}

#[test]
fn nobody_purges_the_host_under_a_running_agent() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let purge = || stage.host.command(bin_dir().join("zeugma-cni")).arg("--purge").output();
        let refused = purge()?;
        ensure!(!refused.status.success() && refused.stderr.contains("stop it first"), "{}", refused.stderr);
        ensure!(agent.get("/v1/status")?.0 == 200);
        drop(agent);
        ensure!(purge()?.status.success() && !stage.host.run_dir().join("locks").exists());
        Ok(())
    });
}

#[test]
fn sigterm_ends_it_and_leaves_no_socket() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        stage.host.run(["kill", "-TERM", &agent.process.pid().to_string()])?;
        ensure!(eventually(SOON, || !agent.process.is_running()), "{}", agent.process.log());
        ensure!(!stage.host.run_dir().join("agent.sock").exists());
        Ok(())
    });
}

#[test]
fn a_port_that_somebody_else_has_is_told_of_and_taken_when_it_is_free() {
    run(|world| {
        let stage = Stage::new(world)?;
        let fixed = ["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--user=root", "--pid-file="];
        let server = stage.host.command("dnsmasq").args(fixed).spawn()?;
        let answers = || dig(&stage.host, "127.0.0.1", "localhost").is_ok();
        ensure!(eventually(SOON, answers), "{}", server.log());
        let agent = Agent::start(&stage.host)?;
        let (chain, one) = (named(0)?, stage.container()?);
        let expected = [address(&chain.add(&stage.host, &one)?, 4)?];
        let problems = agent.status()?["problems"].to_string();
        ensure!(problems.contains("port 53 of 10.88.0.1 is taken by dnsmasq"), "{problems}");
        ensure!(agent.page("/metrics")?.1.contains("zeugma_agent_listeners_failed 2"), "{problems}");
        ensure!(answers(), "the host's own server was disturbed");
        drop(server);
        let found =
            || dig(one.container(), "10.88.0.1", "c0.zeugma.internal").is_ok_and(|found| found == expected);
        ensure!(eventually(SOON, found), "{}", agent.process.log());
        ensure!(eventually(SOON, || agent.status().is_ok_and(|status| status["problems"].is_null())));
        Ok(())
    });
}

#[test]
fn an_address_that_went_and_came_back_answers_again() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let (chain, one) = (named(0)?, stage.container()?);
        let expected = [address(&chain.add(&stage.host, &one)?, 4)?];
        // The agent puts the address back; the sockets are those from before.
        stage.host.ip("addr del 10.88.0.1/24 dev br0")?;
        let is_back =
            || stage.host.ip("addr show br0").is_ok_and(|shown| shown.stdout.contains("10.88.0.1/24"));
        ensure!(eventually(SOON, is_back), "{}", agent.process.log());
        for question in ["c0.zeugma.internal", "+tcp c0.zeugma.internal"] {
            assert_eq!(dig(one.container(), "10.88.0.1", question)?, expected, "{}", agent.process.log());
        }
        ensure!(!agent.process.log().contains("not listening"), "{}", agent.process.log());
        Ok(())
    });
}

#[test]
fn metrics_and_health_tell_what_is_served() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        named(0)?.add(&stage.host, &stage.container()?)?;
        for page in ["/healthz", "/readyz"] {
            assert_eq!(agent.page(page)?, (200, "ok\n".into()));
        }
        let (_, metrics) = agent.page("/metrics")?;
        for line in ["attachments 1", "networks 1", "names 1", "listeners_open 2", "build_info{version="] {
            ensure!(metrics.contains(&format!("\nzeugma_agent_{line}")), "no {line} in {metrics}");
        }
        Ok(())
    });
}

#[test]
fn without_its_metrics_port_it_serves_names() {
    run(|world| {
        let stage = Stage::new(world)?;
        let _taken = stage.host.tcp_echo("127.0.0.1:9253", "taken")?;
        let agent = Agent::start(&stage.host)?;
        ensure!(agent.process.log().contains("no metrics yet"), "{}", agent.process.log());
        ensure!(agent.get("/v1/status")?.0 == 200);
        drop(agent);
        let silent = Agent::run(&stage.host, command(&stage.host).args(["--listen-metrics", "none"]))?;
        ensure!(!silent.process.log().contains("metrics"), "{}", silent.process.log());
        Ok(())
    });
}

#[test]
fn nonsense_at_the_socket_is_refused_in_json() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        for (answer, code) in [
            (agent.post("/v1/sync", "{")?, 400),
            (agent.post("/v1/sync", r#"{"network":"../x","container":"c","ifname":"e"}"#)?, 400),
            (agent.post("/v1/sync", &"x".repeat(100_000))?, 413),
            (agent.get("/v1/sync")?, 405),
            (agent.get("/v2")?, 404),
        ] {
            ensure!(answer.0 == code && answer.1["error"].is_string(), "{code}: {answer:?}");
        }
        let strange = r#"{"network":"no","container":"such","ifname":"eth0"}"#;
        assert_eq!(agent.post("/v1/sync", strange)?, (200, json!({"generation": 0})));
        Ok(())
    });
}

#[test]
fn nobody_but_root_may_ask() {
    run(|world| {
        let stage = Stage::new(world)?;
        let _agent = Agent::start(&stage.host)?;
        let socket = stage.host.run_dir().join("agent.sock").display().to_string();
        let ask = |user: &[&str]| {
            let curl = ["curl", "--silent", "--unix-socket", &socket, "http://agent/v1/status"];
            stage.host.run(user.iter().copied().chain(curl))
        };
        ensure!(ask(&[]).is_ok());
        let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        ensure!(ask(&nobody).is_err());
        // Also when the file's mode lets them.
        stage.host.run(["chmod", "0777", &socket])?;
        ensure!(ask(&nobody).is_err());
        Ok(())
    });
}

#[test]
fn where_others_may_write_there_is_no_socket() {
    run(|world| {
        let stage = Stage::new(world)?;
        fs::create_dir_all(stage.host.run_dir())?;
        stage.host.run(["chmod".into(), "0777".into(), stage.host.run_dir().display().to_string()])?;
        let refused = command(&stage.host).output()?;
        ensure!(
            !refused.status.success() && refused.stderr.contains("is writable for others"),
            "{}",
            refused.stderr
        );
        Ok(())
    });
}
