//! `zeugma service`, `endpoint` and `apply` as a person or a script uses them. What a service is to packets is in
//! `crates/kernel/tests/services`, what the agent makes of it in services.rs.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Chain, Finished, Host, Server, eventually, run};
use serde_json::{Value, json};
use zeugma_tests::agent::{Agent, SOON};
use zeugma_tests::bin_dir;
use zeugma_tests::stage::{Stage, address, bridge, network, portmap, published, with};

/// Where the client outside finds services.
const VIP: &str = "10.96.0.1";

/// Whatever comes of it.
fn tried(stage: &Stage<'_>, line: &str) -> Result<Finished> {
    stage.host.command(bin_dir().join("zeugma")).args(line.split_whitespace()).output()
}

/// What it prints.
fn zeugma(stage: &Stage<'_>, line: &str) -> Result<String> {
    let finished = tried(stage, line)?;
    ensure!(finished.status.success(), "{line}: {finished:?}");
    Ok(finished.stdout)
}

fn read(stage: &Stage<'_>, line: &str) -> Result<Value> {
    Ok(serde_json::from_str(&zeugma(stage, line)?)?)
}

/// What it says when it fails.
fn refused(stage: &Stage<'_>, line: &str) -> Result<String> {
    let finished = tried(stage, line)?;
    ensure!(finished.status.code() == Some(1) && finished.stdout.is_empty(), "{line}: {finished:?}");
    Ok(finished.stderr)
}

/// The stage with an agent, and a service `web` at [`VIP`] with these words besides.
fn with_web<'a>(world: &'a netns_fixtures::World, words: &str) -> Result<(Stage<'a>, Agent)> {
    let stage = Stage::new(world)?;
    let agent = Agent::start(&stage.host)?;
    stage.client.ip("route add 10.96.0.0/24 via 192.0.2.1")?;
    zeugma(&stage, &format!("service create web --network net0 --vip {VIP} --port http=80:8080 {words}"))?;
    Ok((stage, agent))
}

/// A network, of IPv4 alone, whose containers have the label `v`.
fn versioned(version: &str) -> Result<Chain> {
    let labels = json!({"cni": {"labels": [{"key": "v", "value": version}]}});
    let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24"}]]});
    let bridge = with(bridge(0), json!({"args": labels, "ipam": ipam}));
    network("net0", &[bridge, json!({"type": "resolver"})])
}

/// A container of it that answers at port 8080 with its name.
fn serving(stage: &Stage<'_>, chain: &Chain) -> Result<Server> {
    let attachment = stage.container()?;
    let address = address(&chain.add(&stage.host, &attachment)?, 4)?;
    attachment.container().tcp_echo(&format!("{address}:8080"), attachment.id())
}

fn ready(stage: &Stage<'_>, count: usize) -> Result<()> {
    let listed = || read(stage, "service ps web --json");
    let is_ready = |one: &&Value| one["state"] == "ready";
    let is_so =
        || listed().is_ok_and(|list| list.as_array().into_iter().flatten().filter(is_ready).count() == count);
    ensure!(eventually(SOON, is_so), "{:?}", listed());
    Ok(())
}

/// Who answers sixty questions.
fn answering(client: &Host) -> Result<BTreeSet<String>> {
    let ask = |_| Ok(client.ask_tcp(&format!("{VIP}:80"))?.split(' ').next().unwrap_or_default().to_owned());
    (0..60).map(ask).collect()
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn a_service_answers_from_its_first_endpoint_to_its_last() {
    run(|world| {
        let (stage, _agent) = with_web(world, "")?;
        let _server = stage.client.tcp_echo("192.0.2.2:8080", "outside")?;
        assert_eq!(zeugma(&stage, "endpoint add web 192.0.2.2 --weight 3")?, "web/192.0.2.2 added\n");
        assert_eq!(
            zeugma(&stage, "endpoint add web 192.0.2.2 --weight 3")?,
            "web/192.0.2.2 is there already\n"
        );
        let curl = ["curl", "--silent", "--http0.9", "--max-time", "20", &format!("http://{VIP}/")];
        let answer = stage.host.run(curl)?.stdout;
        ensure!(answer.starts_with("outside "), "{answer}");
        zeugma(&stage, "endpoint rm web 192.0.2.2")?;
        ensure!(stage.host.ask_tcp(&format!("{VIP}:80")).is_err_and(|error| error.is_refused()));
        assert_eq!(zeugma(&stage, "service rm web")?, "web\n");
        assert_eq!(read(&stage, "service ls --json")?, json!([]));
        Ok(())
    });
}

#[test]
fn lists_are_tables_for_people_and_json_for_programs() {
    run(|world| {
        let (stage, _agent) = with_web(world, "-p 8088:80,scope=local --drain 1m --selector v=1")?;
        zeugma(&stage, "endpoint add web 192.0.2.9 --weight 3 --node n9 --label a=b")?;
        let table = zeugma(&stage, "service ls")?;
        let line: Vec<&str> = table.lines().nth(1).unwrap_or_default().split_whitespace().collect();
        assert_eq!(line[..4], ["web", "vip", VIP, "http=80->8080/tcp"]);
        let views = read(&stage, "service inspect web")?;
        assert_eq!(views[0]["service"]["drain_seconds"], 60);
        assert_eq!(views[0]["service"]["published"][0]["scope"], "local");
        let expected = json!([]);
        // A label that the service does not select: it does not serve.
        assert_eq!(read(&stage, "service ps web --json")?, expected);
        zeugma(&stage, "endpoint add web 192.0.2.9 --weight 3 --node n9")?;
        let expected = json!([{"service": "web", "address": "192.0.2.9", "node": "n9", "weight": 3,
            "state": "ready", "origin": "added"}]);
        assert_eq!(read(&stage, "service ps web --json")?, expected);
        assert_eq!(read(&stage, "endpoint ls --json")?, expected);
        assert_eq!(read(&stage, "service ls --json")?[0]["endpoints"][0]["address"], "192.0.2.9");
        Ok(())
    });
}

#[test]
fn what_is_refused_is_named_with_its_remedy_and_nothing_changes() {
    run(|world| {
        let (stage, _agent) = with_web(world, "--selector v=1")?;
        let before = read(&stage, "service ls --json")?;
        for (line, words) in [
            ("service create web --port 80", &["service web", "update it"][..]),
            ("service create db --port 80 --port 80", &["service db", "80/tcp twice", "remove one"]),
            ("service create db --vip 10.96.0.1 --port 80", &["10.96.0.1", "service web's", "take another"]),
            ("service create db --vip 127.0.0.1 --port 80", &["service db", "127.0.0.1", "leave it out"]),
            ("service update wbe --drain 1", &["service wbe", "is it web?"]),
            ("service update web --health-interval 1", &["service web", "--health-tcp"]),
            ("service rollback web", &["service web", "nothing to return to"]),
            ("service rm queue", &["service queue", "zeugma service ls"]),
            ("service ps queue", &["service queue", "zeugma service ls"]),
            ("service scale web=3", &["service web has 0", "nothing was changed", "v=1"]),
            ("endpoint add db 192.0.2.2", &["service db"]),
            ("endpoint add web 0.0.0.0", &["0.0.0.0", "take an address"]),
            ("endpoint add web 10.213.0.9", &["10.213.0.9", "10.213.0.0/16"]),
            ("endpoint add web 10.96.0.1", &["10.96.0.1", "service web itself"]),
            ("endpoint rm web 192.0.2.2", &["192.0.2.2", "service web", "zeugma endpoint ls web"]),
            ("endpoint drain web 192.0.2.2", &["192.0.2.2", "service web", "zeugma endpoint ls web"]),
        ] {
            let said = refused(&stage, line)?;
            ensure!(words.iter().all(|word| said.contains(word)), "{line}: {said}");
        }
        assert_eq!(read(&stage, "service ls --json")?, before);
        Ok(())
    });
}

#[test]
fn without_an_agent_services_say_how_to_start_one() {
    run(|world| {
        let stage = Stage::new(world)?;
        for line in ["service ls", "service create web", "endpoint add web 192.0.2.2"] {
            let said = refused(&stage, line)?;
            ensure!(said.contains("start it with `zeugma agent`"), "{line}: {said}");
        }
        Ok(())
    });
}

#[test]
fn containers_are_no_endpoints_to_be_added_or_removed() {
    run(|world| {
        let (stage, _agent) = with_web(world, "--selector v=1")?;
        let _one = serving(&stage, &versioned("1")?)?;
        ready(&stage, 1)?;
        for line in
            ["endpoint add web 10.88.0.2", "endpoint rm web 10.88.0.2", "endpoint drain web 10.88.0.2"]
        {
            let said = refused(&stage, line)?;
            ensure!(said.contains("is container c0, which serves by its labels"), "{line}: {said}");
        }
        let listed = read(&stage, "service ps web --json")?;
        assert_eq!(listed[0]["origin"]["container"]["container"], "c0");
        Ok(())
    });
}

#[test]
fn updates_at_the_same_time_all_hold() {
    run(|world| {
        let (stage, agent) = with_web(world, "")?;
        let lines = ["--drain 7", "--affinity 8", "--label a=b", "--traffic prefer-local"];
        let update = |words: &str| zeugma(&stage, &format!("service update web {words} --detach"));
        thread::scope(|scope| {
            let updates = lines.map(|words| scope.spawn(move || update(words)));
            updates.into_iter().try_for_each(|one| one.join().ok().context("it panicked")?.map(drop))
        })?;
        let service = &read(&stage, "service inspect web")?[0]["service"];
        assert_eq!(service["drain_seconds"], 7);
        assert_eq!(service["affinity"]["timeout_seconds"], 8);
        assert_eq!((&service["labels"]["a"], &service["traffic"]), (&json!("b"), &json!("prefer-local")));
        let (code, told) = agent.get("/v1/services/web")?;
        ensure!(code == 200 && told["revision"].as_u64() > Some(4), "{told}");
        Ok(())
    });
}

#[test]
fn a_port_that_a_container_has_is_told() {
    run(|world| {
        let (stage, _agent) = with_web(world, "")?;
        let chain = network("net0", &[bridge(0), portmap()])?;
        chain.add(&stage.host, &stage.container()?.with(published(&["8088:80"])))?;
        let updated = tried(&stage, "service update web --publish 8088:80")?;
        ensure!(updated.status.code() == Some(3), "{updated:?}");
        let words = "web: port 8088/tcp is published by container c0 on network net0, too";
        ensure!(updated.stderr.contains(words), "{}", updated.stderr);
        zeugma(&stage, "endpoint add web 192.0.2.2")?;
        for (line, code) in
            [("service create db --publish 8088:80", 3), ("endpoint add db 192.0.2.2", 3), ("service ls", 0)]
        {
            let tried = tried(&stage, line)?;
            ensure!(tried.status.code() == Some(code), "{line}: {tried:?}");
            ensure!(tried.stderr.contains("8088/tcp is published by"), "{line}: {tried:?}");
        }
        Ok(())
    });
}

#[test]
fn a_watched_list_tells_every_change() {
    run(|world| {
        let (stage, _agent) = with_web(world, "")?;
        let words = ["endpoint", "ls", "--json", "--watch"];
        let watch = stage.host.command(bin_dir().join("zeugma")).args(words).spawn()?;
        let tells = |line: &str| eventually(SOON, || watch.log().lines().last() == Some(line));
        ensure!(tells("[]"), "{}", watch.log());
        zeugma(&stage, "endpoint add web 192.0.2.2")?;
        let there =
            r#"[{"service":"web","address":"192.0.2.2","weight":1,"state":"ready","origin":"added"}]"#;
        ensure!(tells(there), "{}", watch.log());
        zeugma(&stage, "endpoint drain web 192.0.2.2")?;
        ensure!(eventually(SOON, || watch.log().contains("\"state\":\"draining\"")), "{}", watch.log());
        zeugma(&stage, "endpoint rm web 192.0.2.2")?;
        ensure!(tells("[]"), "{}", watch.log());
        Ok(())
    });
}

#[test]
fn an_update_that_fails_stops_or_goes_back_and_says_so() {
    run(|world| {
        let (stage, _agent) = with_web(world, "--selector v=1 --update-monitor 1")?;
        let _one = serving(&stage, &versioned("1")?)?;
        ready(&stage, 1)?;
        // Nobody has the new label.
        let paused = tried(&stage, "service update web --selector v=2")?;
        let says = |words| paused.stderr.contains(words);
        ensure!(paused.status.code() == Some(1) && says("the update of service web stopped"), "{paused:?}");
        ensure!(says("zeugma service rollback web"), "{paused:?}");
        ensure!(zeugma(&stage, "service ls")?.contains("paused: "));
        zeugma(&stage, "service rollback web")?;
        let returned = tried(&stage, "service update web --selector v=2 --update-failure-action rollback")?;
        let says = |words| returned.stderr.contains(words);
        ensure!(returned.status.code() == Some(1) && says("service web went back"), "{returned:?}");
        assert_eq!(answering(&stage.client)?, names(["c0"]));
        Ok(())
    });
}

#[test]
fn under_load_an_update_and_a_rollback_lose_no_request() {
    run(|world| {
        let words = "--selector v=1 --drain 2 --update-monitor 1 --update-parallelism 1";
        let (stage, _agent) = with_web(world, words)?;
        let (old, new) = (versioned("1")?, versioned("2")?);
        let mut servers = Vec::new();
        for chain in [&old, &old, &new, &new] {
            servers.push(serving(&stage, chain)?);
        }
        ready(&stage, 2)?;
        let lost = under_load(&stage.client, || {
            assert_eq!(answering(&stage.client)?, names(["c0", "c1"]));
            zeugma(&stage, "service update web --selector v=2")?;
            assert_eq!(answering(&stage.client)?, names(["c2", "c3"]));
            zeugma(&stage, "service rollback web")?;
            assert_eq!(answering(&stage.client)?, names(["c0", "c1"]));
            Ok(())
        })?;
        assert_eq!(lost, [""; 0]);
        Ok(())
    });
}

/// Those who ask at once, and how often each does: together a thousand times a second, as long as the machine can.
const ASKERS: u32 = 4;
const PERIOD: Duration = Duration::from_millis(4);
/// Questions of each, however short the story is.
const LEAST: u32 = 1250;

/// Asks [`VIP`] all the time while the story happens; says which questions were not answered.
fn under_load(client: &Host, story: impl FnOnce() -> Result<()>) -> Result<Vec<String>> {
    thread::scope(|scope| {
        let (stories, askers): (Vec<_>, Vec<_>) = (0..ASKERS)
            .map(|_| {
                let (story, goes_on) = mpsc::channel::<()>();
                (story, scope.spawn(move || client.enter(move || Ok(asking(&goes_on)))))
            })
            .unzip();
        let outcome = story();
        drop(stories);
        let mut lost = Vec::new();
        for asker in askers {
            lost.extend(asker.join().ok().context("an asker panicked")??);
        }
        outcome.map(|()| lost)
    })
}

/// Asks in time with [`PERIOD`] until the sender is gone.
fn asking(story: &mpsc::Receiver<()>) -> Vec<String> {
    let (mut due, mut asked, mut lost, mut goes_on) = (Instant::now(), 0, Vec::new(), true);
    while asked < LEAST || goes_on {
        lost.extend(asked_once().err().map(|error| format!("question {asked}: {error:#}")));
        asked += 1;
        due += PERIOD;
        let rest = due.saturating_duration_since(Instant::now());
        goes_on = story.recv_timeout(rest) == Err(mpsc::RecvTimeoutError::Timeout);
    }
    lost
}

fn asked_once() -> Result<()> {
    let at: SocketAddr = format!("{VIP}:80").parse()?;
    let mut stream = TcpStream::connect_timeout(&at, SOON).context("connect")?;
    stream.set_read_timeout(Some(SOON))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read")?;
    ensure!(answer.starts_with('c'), "{answer:?}");
    Ok(())
}

fn apply(stage: &Stage<'_>, words: &str, file: &str, text: &str) -> Result<Finished> {
    let path = stage.world.dir().join(file);
    std::fs::write(&path, text)?;
    tried(stage, &format!("apply -f {} {words}", path.display()))
}

#[test]
fn apply_makes_it_so_once_and_says_what_would_change() {
    run(|world| {
        let (stage, _agent) = with_web(world, "")?;
        let toml = "[[endpoint]]\nservice = \"db\"\naddress = \"192.0.2.9\"\n\n[[service]]\nname = \"db\"\nports = [{ port = 80 }]\n";
        let yaml = "kind: service\nname: db\nports: [{port: 80}]\n---\nkind: endpoint\nservice: db\naddress: 192.0.2.9\nweight: 2\n";
        let check = |words: &str, file: &str, text: &str, expected: &str| {
            let applied = apply(&stage, words, file, text)?;
            ensure!(applied.status.success() && applied.stdout == expected, "{applied:?}");
            Ok(())
        };
        let would = "service/db would be created\nendpoint/db/192.0.2.9 would be created\n";
        check("--dry-run", "a.toml", toml, would)?;
        check("", "a.toml", toml, "service/db created\nendpoint/db/192.0.2.9 created\n")?;
        check("", "a.toml", toml, "service/db unchanged\nendpoint/db/192.0.2.9 unchanged\n")?;
        let would = "service/db would be unchanged\nendpoint/db/192.0.2.9 would be updated\n  - weight: 1\n  + weight: 2\n";
        check("--dry-run", "a.yaml", yaml, would)?;
        check("", "a.yaml", yaml, "service/db unchanged\nendpoint/db/192.0.2.9 updated\n")?;
        assert_eq!(read(&stage, "endpoint ls db --json")?[0]["weight"], 2);
        Ok(())
    });
}

#[test]
fn apply_changes_nothing_when_anything_is_wrong_and_says_where() {
    run(|world| {
        let (stage, _agent) = with_web(world, "")?;
        let before = read(&stage, "service ls --json")?;
        let yaml = "kind: service\nname: db\n---\nkind: service\nname: web\nprots: []\n---\nkind: pod\n";
        let applied = apply(&stage, "", "a.yaml", yaml)?;
        ensure!(applied.status.code() == Some(1) && applied.stdout.is_empty(), "{applied:?}");
        for words in
            ["a.yaml:6:1: unknown field `prots`", "a.yaml:8:7: \"pod\" is no kind", "nothing was changed"]
        {
            ensure!(applied.stderr.contains(words), "{words}: {}", applied.stderr);
        }
        assert_eq!(read(&stage, "service ls --json")?, before);
        Ok(())
    });
}

#[test]
fn apply_makes_networks_before_what_is_on_them_and_never_changes_one() {
    run(|world| {
        let (stage, _agent) = with_web(world, "")?;
        let toml = "[[service]]\nname = \"db\"\nnetworks = [\"back\"]\n\n[[network]]\nname = \"back\"\n";
        let applied = apply(&stage, "", "a.toml", toml)?;
        ensure!(applied.stdout == "network/back created\nservice/db created\n", "{applied:?}");
        let applied = apply(&stage, "", "a.toml", toml)?;
        ensure!(applied.stdout == "network/back unchanged\nservice/db unchanged\n", "{applied:?}");
        let applied = apply(&stage, "--dry-run", "a.toml", &format!("{toml}internal = true\n"))?;
        ensure!(applied.stdout.contains("network/back would be refused"), "{applied:?}");
        ensure!(applied.stdout.contains("  - internal: false\n  + internal: true\n"), "{applied:?}");
        let applied = apply(&stage, "", "a.toml", &format!("{toml}internal = true\n"))?;
        ensure!(
            applied.status.code() == Some(1) && applied.stdout == "service/db unchanged\n",
            "{applied:?}"
        );
        ensure!(applied.stderr.contains("a.toml:5:1: network/back: "), "{applied:?}");
        Ok(())
    });
}

#[test]
fn while_the_catalogue_is_away_changes_are_refused_with_the_reason() {
    run(|world| {
        let stage = Stage::new(world)?;
        std::fs::write(stage.host.state_dir(), "no directory")?;
        let _agent = Agent::start(&stage.host)?;
        let is_told =
            || refused(&stage, "service create web").is_ok_and(|said| said.contains("Not a directory"));
        ensure!(eventually(SOON, is_told), "{}", refused(&stage, "service create web")?);
        let said = refused(&stage, "service create web")?;
        ensure!(
            said.contains("does not answer") && said.contains("services go on as they were known"),
            "{said}"
        );
        ensure!(refused(&stage, "service ls --json")?.contains("the catalogue does not answer since"));
        Ok(())
    });
}
