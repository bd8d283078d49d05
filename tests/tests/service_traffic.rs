//! What a service's options are to clients and to names, as `zeugma` sets them and the agent carries them out. What
//! packets see of a rule alone is in `crates/kernel/tests/services`.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use netns_fixtures::{Attachment, Host, Server, World, eventually, run};
use serde_json::json;
use zeugma_tests::agent::{Agent, SOON, ensure_told};
use zeugma_tests::bin_dir;
use zeugma_tests::stage::{Stage, address, bridge, network, with};

const VIP: &str = "10.96.0.1";
/// Two endpoints, in the order of their containers.
const ENDPOINTS: [&str; 2] = ["10.88.0.2", "10.88.0.3"];
/// The server of names of their network.
const GATEWAY: &str = "10.88.0.1";

/// A service `web` at [`VIP`] and a service `turns` without an address, both of the containers `c0` and `c1`.
struct Scene<'a> {
    stage: Stage<'a>,
    _agent: Agent,
    attachments: Vec<Attachment>,
    servers: Vec<Option<Server>>,
}

impl<'a> Scene<'a> {
    /// With these words about both services, and these about the first endpoint.
    fn new(world: &'a World, words: &str, first: &str) -> Result<Self> {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        stage.client.ip("route add 10.96.0.0/24 via 192.0.2.1")?;
        let (attachments, servers) = Default::default();
        let mut scene = Self { stage, _agent: agent, attachments, servers };
        let ports = "--network net0 --port http=80:8080";
        scene.zeugma(&format!("service create web {ports} --vip {VIP} {words}"))?;
        scene.zeugma(&format!("service create turns {ports} --mode dnsrr {words}"))?;
        let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24"}]]});
        let bridge = with(bridge(0), json!({"ipam": ipam}));
        let chain = network("net0", &[bridge, json!({"type": "resolver"})])?;
        for (number, endpoint) in ENDPOINTS.iter().enumerate() {
            let attachment = scene.stage.container()?;
            ensure!(address(&chain.add(&scene.stage.host, &attachment)?, 4)? == *endpoint);
            scene.attachments.push(attachment);
            scene.servers.push(Some(scene.serve(number)?));
            for service in ["web", "turns"] {
                let words = if number == 0 { first } else { "" };
                scene.zeugma(&format!("endpoint add {service} {endpoint} {words}"))?;
            }
        }
        Ok(scene)
    }

    fn zeugma(&self, line: &str) -> Result<()> {
        self.stage.host.command(bin_dir().join("zeugma")).args(line.split_whitespace()).run().map(drop)
    }

    fn serve(&self, number: usize) -> Result<Server> {
        let attachment = &self.attachments[number];
        attachment.container().tcp_echo(&format!("{}:8080", ENDPOINTS[number]), attachment.id())
    }

    /// Who answers so many questions, and how often.
    fn answers(&self, count: usize) -> Result<BTreeMap<String, usize>> {
        let mut answers = BTreeMap::new();
        for _ in 0..count {
            let answer = self.stage.client.ask_tcp(&format!("{VIP}:80"))?;
            *answers.entry(answer.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
        }
        Ok(answers)
    }

    /// These serve at the address and are told by name, and nobody else.
    fn ensure_serving(&self, numbers: &[usize]) -> Result<()> {
        let names: Vec<String> = numbers.iter().map(|number| format!("c{number}")).collect();
        let is_so = || self.answers(60).is_ok_and(|answers| answers.keys().eq(&names));
        ensure!(eventually(SOON, is_so), "{:?} instead of {names:?}", self.answers(60));
        let addresses: Vec<String> = numbers.iter().map(|number| ENDPOINTS[*number].to_owned()).collect();
        for name in ["tasks.web", "turns", "tasks.turns"] {
            self.ensure_told(name, &addresses)?;
        }
        self.ensure_told("web", &[VIP.to_owned()])
    }

    fn ensure_told(&self, name: &str, expected: &[String]) -> Result<()> {
        let (name, kind) = name.split_once(' ').unwrap_or((name, "A"));
        ensure_told(self.asker(), GATEWAY, &format!("{name}.zeugma.internal {kind}"), expected)
    }

    fn asker(&self) -> &Host {
        self.attachments[1].container()
    }
}

#[test]
fn with_affinity_a_client_stays_with_its_endpoint() {
    run(|world| {
        let scene = Scene::new(world, "--affinity 10m", "")?;
        assert_eq!(scene.answers(60)?.len(), 1);
        scene.zeugma("service update web --clear affinity")?;
        assert_eq!(scene.answers(60)?.len(), 2);
        Ok(())
    });
}

#[test]
fn an_endpoint_of_three_times_the_weight_gets_about_three_times_the_flows() {
    run(|world| {
        let scene = Scene::new(world, "", "--weight 3")?;
        let answers = scene.answers(480)?;
        let ratio = answers["c0"] as f64 / answers["c1"] as f64;
        ensure!((1.5..6.0).contains(&ratio), "{answers:?}");
        Ok(())
    });
}

#[test]
fn who_fails_its_health_check_gets_no_flows_and_no_name_until_it_answers_again() {
    run(|world| {
        let words = "--health-tcp 8080 --health-interval 1 --health-threshold 1";
        let mut scene = Scene::new(world, words, "")?;
        scene.ensure_serving(&[0, 1])?;
        scene.servers[0] = None;
        scene.ensure_serving(&[1])?;
        scene.servers[0] = Some(scene.serve(0)?);
        scene.ensure_serving(&[0, 1])
    });
}

#[test]
fn a_drained_endpoint_leaves_the_address_and_all_names_until_it_is_added_again() {
    run(|world| {
        let scene = Scene::new(world, "", "")?;
        scene.ensure_serving(&[0, 1])?;
        scene.zeugma("endpoint drain web 10.88.0.2")?;
        scene.zeugma("endpoint drain turns 10.88.0.2")?;
        scene.ensure_serving(&[1])?;
        scene.zeugma("endpoint add web 10.88.0.2")?;
        scene.zeugma("endpoint add turns 10.88.0.2")?;
        scene.ensure_serving(&[0, 1])
    });
}

#[test]
fn a_named_port_has_srv_records_that_lead_to_the_service_and_to_its_endpoints() {
    run(|world| {
        let scene = Scene::new(world, "", "")?;
        let service = ["0 0 80 web.zeugma.internal.".to_owned()];
        scene.ensure_told("_http._tcp.web SRV", &service)?;
        let host = |address: &str| format!("{}.tasks.web", address.replace('.', "-"));
        let targets = ENDPOINTS.map(|address| format!("0 1 8080 {}.zeugma.internal.", host(address)));
        scene.ensure_told("_http._tcp.tasks.web SRV", &targets)?;
        for address in ENDPOINTS {
            scene.ensure_told(&host(address), &[address.to_owned()])?;
        }
        scene.ensure_told("_ftp._tcp.web SRV", &[])
    });
}
