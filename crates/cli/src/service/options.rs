//! The options of `service create` and `service update`: each changes one part of a service and leaves the others.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use zeugma_model::{
    Affinity, FailureAction, HealthCheck, Mode, NetworkName, Probe, PublishedPort, Selector, Service,
    ServiceName, ServicePort, TrafficPolicy, UpdateOrder, UpdatePolicy, Vips,
};

use super::words::{http_check, label, published_port, seconds, service_port, some_seconds, tcp_check};

/// Parts of a service. A list that is given is the whole list.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Options {
    /// A network whose containers know the service by name, and may serve it. May be given several times.
    #[arg(long = "network", value_name = "NETWORK")]
    networks: Vec<NetworkName>,
    /// A port, such as 80, 80:8080 (the endpoints' port is another), dns=53/udp (for SRV). May be given several times.
    #[arg(long = "port", value_name = "[NAME=]PORT[:TARGET][/PROTOCOL]", value_parser = service_port)]
    ports: Vec<ServicePort>,
    /// A port of every host that leads to a port of the service, which is made unless --port has it; scope=local: of
    /// hosts with endpoints, to these, who see the client's address. May be given several times.
    #[arg(short, long, value_name = "HOST:PORT[/PROTOCOL][,scope=local]", value_parser = published_port)]
    publish: Vec<PublishedPort>,
    /// Labels that a container has that serves. In an update, those with the new ones take the others' place step by
    /// step.
    #[arg(long, value_name = "KEY=VALUE,...", value_delimiter = ',', value_parser = label)]
    selector: Vec<(String, String)>,
    /// A label of the service itself. May be given several times.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// What the name stands for: an address of its own, or the endpoints' in turn.
    #[arg(long, visible_alias = "endpoint-mode", value_enum)]
    mode: Option<ModeWord>,
    /// A virtual address instead of an allocated one; one of each family.
    #[arg(long = "vip", value_name = "ADDRESS")]
    vips: Vec<IpAddr>,
    /// Clients stay with their endpoint, until they are silent for so long: 1 s to a day.
    #[arg(long, value_name = "SECONDS", value_parser = some_seconds)]
    affinity: Option<NonZeroU32>,
    /// Which endpoints take part: all, those on the client's node if there are any, or those alone.
    #[arg(long, value_enum)]
    traffic: Option<TrafficWord>,
    #[command(flatten)]
    health: Health,
    /// For how long an endpoint that leaves keeps its flows.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    drain: Option<u32>,
    #[command(flatten)]
    update: Update,
}

/// How endpoints are asked whether they serve.
#[derive(Debug, Clone, Default, Args)]
struct Health {
    /// An endpoint is healthy that takes connections at this port.
    #[arg(long = "health-tcp", value_name = "PORT", value_parser = tcp_check, conflicts_with = "http")]
    tcp: Option<Probe>,
    /// An endpoint is healthy that answers GET with a status below 400.
    #[arg(long = "health-http", value_name = "PORT/PATH", value_parser = http_check)]
    http: Option<Probe>,
    /// Time between two checks: 10 s unless given.
    #[arg(long = "health-interval", value_name = "SECONDS", value_parser = some_seconds)]
    interval: Option<NonZeroU32>,
    /// How long an answer may take: 2 s unless given.
    #[arg(long = "health-timeout", value_name = "SECONDS", value_parser = some_seconds)]
    timeout: Option<NonZeroU32>,
    /// Answers of one kind in a row that change the endpoint's state: 3 unless given.
    #[arg(long = "health-threshold", visible_alias = "health-retries", value_name = "COUNT")]
    threshold: Option<NonZeroU32>,
}

/// How endpoints are exchanged.
#[derive(Debug, Clone, Default, Args)]
struct Update {
    /// Endpoints exchanged at once; 0: all. 1 unless given.
    #[arg(long = "update-parallelism", value_name = "COUNT")]
    parallelism: Option<u32>,
    /// Time between two steps. None unless given.
    #[arg(long = "update-delay", value_name = "SECONDS", value_parser = seconds)]
    delay: Option<u32>,
    /// For how long new endpoints are watched after they joined. 5 s unless given.
    #[arg(long = "update-monitor", value_name = "SECONDS", value_parser = seconds)]
    monitor: Option<u32>,
    /// What happens when a new endpoint fails meanwhile. Pause unless given.
    #[arg(long = "update-failure-action", value_enum)]
    on_failure: Option<FailureWord>,
    /// Whether new endpoints take flows before old ones stop. They do unless told otherwise.
    #[arg(long = "update-order", value_enum)]
    order: Option<OrderWord>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModeWord {
    Vip,
    Dnsrr,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TrafficWord {
    Any,
    PreferLocal,
    LocalOnly,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FailureWord {
    Pause,
    Rollback,
    Continue,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OrderWord {
    StartFirst,
    StopFirst,
}

/// A part of a service that can be emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// No network.
    Network,
    /// No port, and so no published one.
    Port,
    /// No published port.
    Publish,
    /// Only endpoints that were added by hand serve.
    Selector,
    /// No label.
    Label,
    /// Clients do not stay.
    Affinity,
    /// Nobody is asked.
    Health,
}

/// A service of which only the name is known.
pub(crate) fn bare(name: ServiceName) -> Service {
    Service {
        name,
        networks: Default::default(),
        selector: Selector::default(),
        labels: BTreeMap::new(),
        mode: Mode::Vip(Vips::default()),
        ports: Vec::new(),
        published: Vec::new(),
        affinity: None,
        traffic: TrafficPolicy::default(),
        health: None,
        drain_seconds: 0,
        update: UpdatePolicy::default(),
    }
}

/// The service without these parts.
pub(crate) fn without(mut service: Service, parts: &[Part]) -> Service {
    for part in parts {
        match part {
            Part::Network => service.networks.clear(),
            Part::Port => {
                service.ports.clear();
                service.published.clear();
            }
            Part::Publish => service.published.clear(),
            Part::Selector => service.selector = Selector::default(),
            Part::Label => service.labels.clear(),
            Part::Affinity => service.affinity = None,
            Part::Health => service.health = None,
        }
    }
    service
}

impl Options {
    /// The service with what the options say.
    ///
    /// # Errors
    /// When they contradict one another or the service.
    pub(crate) fn applied(&self, mut service: Service) -> Result<Service> {
        replace(&mut service.networks, &self.networks);
        replace(&mut service.ports, &self.ports);
        replace(&mut service.published, &self.publish);
        replace(&mut service.labels, &self.labels);
        replace(&mut service.selector.0, &self.selector);
        for published in &self.publish {
            if service.port(published.port, published.protocol).is_none() {
                let (port, protocol) = (published.port, published.protocol);
                service.ports.push(ServicePort { name: None, port, target: None, protocol });
            }
        }
        service.mode = self.mode(&service)?;
        service.affinity =
            self.affinity.map(|timeout_seconds| Affinity { timeout_seconds }).or(service.affinity);
        service.traffic = self.traffic.map_or(service.traffic, TrafficWord::meant);
        service.health = self.health.applied(&service.name, service.health)?;
        service.drain_seconds = self.drain.unwrap_or(service.drain_seconds);
        service.update = self.update.applied(service.update);
        Ok(service.checked()?)
    }

    fn mode(&self, service: &Service) -> Result<Mode> {
        let name = &service.name;
        let (mut vips, is_dnsrr) = match (self.mode, service.mode) {
            (Some(ModeWord::Dnsrr), _) | (None, Mode::Dnsrr) => (Vips::default(), true),
            (_, Mode::Vip(vips)) => (vips, false),
            (Some(ModeWord::Vip), Mode::Dnsrr) => (Vips::default(), false),
        };
        ensure!(
            !is_dnsrr || self.vips.is_empty(),
            "service {name} has mode dnsrr and a virtual address: leave out --vip, or say --mode vip"
        );
        let mut families = [false; 2];
        for vip in self.vips.iter().map(IpAddr::to_canonical) {
            ensure!(
                !std::mem::replace(&mut families[usize::from(vip.is_ipv6())], true),
                "service {name} has two virtual addresses of one family: leave one of each"
            );
            match vip {
                IpAddr::V4(v4) => vips.v4 = Some(v4),
                IpAddr::V6(v6) => vips.v6 = Some(v6),
            }
        }
        Ok(if is_dnsrr { Mode::Dnsrr } else { Mode::Vip(vips) })
    }
}

/// What is given is all there is to be; nothing leaves it as it is.
fn replace<C: FromIterator<T>, T: Clone>(whole: &mut C, given: &[T]) {
    if !given.is_empty() {
        *whole = given.iter().cloned().collect();
    }
}

impl Health {
    fn applied(&self, service: &ServiceName, before: Option<HealthCheck>) -> Result<Option<HealthCheck>> {
        let probe = self.tcp.as_ref().or(self.http.as_ref()).cloned();
        let mut check = match (before, probe) {
            (Some(before), Some(probe)) => HealthCheck { probe, ..before },
            (Some(before), None) => before,
            (None, Some(probe)) => defaults(probe),
            (None, None) if self.interval.or(self.timeout).or(self.threshold).is_some() => {
                bail!("service {service} has no health check: say which with --health-tcp or --health-http")
            }
            (None, None) => return Ok(None),
        };
        check.interval_seconds = self.interval.unwrap_or(check.interval_seconds);
        check.timeout_seconds = self.timeout.unwrap_or(check.timeout_seconds);
        check.threshold = self.threshold.unwrap_or(check.threshold);
        Ok(Some(check))
    }
}

/// As the model has them: 10 s, 2 s, 3 times.
fn defaults(probe: Probe) -> HealthCheck {
    let number = |more: u32| NonZeroU32::MIN.saturating_add(more);
    HealthCheck { probe, interval_seconds: number(9), timeout_seconds: number(1), threshold: number(2) }
}

impl Update {
    fn applied(&self, before: UpdatePolicy) -> UpdatePolicy {
        UpdatePolicy {
            parallelism: self.parallelism.unwrap_or(before.parallelism),
            delay_seconds: self.delay.unwrap_or(before.delay_seconds),
            monitor_seconds: self.monitor.unwrap_or(before.monitor_seconds),
            on_failure: self.on_failure.map_or(before.on_failure, FailureWord::meant),
            order: self.order.map_or(before.order, OrderWord::meant),
        }
    }
}

impl TrafficWord {
    fn meant(self) -> TrafficPolicy {
        match self {
            Self::Any => TrafficPolicy::Any,
            Self::PreferLocal => TrafficPolicy::PreferLocal,
            Self::LocalOnly => TrafficPolicy::LocalOnly,
        }
    }
}

impl FailureWord {
    fn meant(self) -> FailureAction {
        match self {
            Self::Pause => FailureAction::Pause,
            Self::Rollback => FailureAction::Rollback,
            Self::Continue => FailureAction::Continue,
        }
    }
}

impl OrderWord {
    fn meant(self) -> UpdateOrder {
        match self {
            Self::StartFirst => UpdateOrder::StartFirst,
            Self::StopFirst => UpdateOrder::StopFirst,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &str) -> Options {
        Line::try_parse_from(format!("x {line}").split_whitespace()).unwrap().options
    }

    fn made(line: &str) -> Value {
        serde_json::to_value(options(line).applied(bare("web".parse().unwrap())).unwrap()).unwrap()
    }

    fn refused(line: &str, words: &str) {
        let error = options(line).applied(bare("web".parse().unwrap())).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn every_option_has_its_place() {
        let line = "--network front --port http=80:8080 -p 8081:80/tcp,scope=local --selector app=web,v=1 -l team=a \
            --vip 10.96.0.9 --affinity 10m --traffic local-only --health-http 8080/up --health-interval 5s \
            --health-timeout 1 --health-retries 2 --drain 30s --update-parallelism 2 --update-delay 1m \
            --update-monitor 0 --update-failure-action rollback --update-order stop-first";
        let expected = json!({
            "name": "web", "networks": ["front"], "mode": "vip", "vips": ["10.96.0.9"],
            "ports": [{"name": "http", "port": 80, "target": 8080, "protocol": "tcp"}],
            "published": [{"published": 8081, "port": 80, "protocol": "tcp", "scope": "local"}],
            "selector": {"app": "web", "v": "1"}, "labels": {"team": "a"},
            "affinity": {"timeout_seconds": 600}, "traffic": "local-only", "drain_seconds": 30,
            "health": {"probe": {"http": {"port": 8080, "path": "/up"}}, "interval_seconds": 5,
                       "timeout_seconds": 1, "threshold": 2},
            "update": {"parallelism": 2, "delay_seconds": 60, "monitor_seconds": 0, "on_failure": "rollback",
                       "order": "stop-first"},
        });
        assert_eq!(made(line), expected);
    }

    #[test]
    fn a_published_port_makes_its_port() {
        let ports = &made("-p 8080:80 -p 53:53/udp --port 80:8000")["ports"];
        let expected =
            json!([{"port": 80, "target": 8000, "protocol": "tcp"}, {"port": 53, "protocol": "udp"}]);
        assert_eq!(*ports, expected);
    }

    #[test]
    fn an_option_changes_its_part_alone() {
        let before = options("--port 80 --vip 10.96.0.1 --health-tcp 80 --drain 9 --update-delay 3");
        let before = before.applied(bare("web".parse().unwrap())).unwrap();
        assert_eq!(options("").applied(before.clone()).unwrap(), before);
        let after = options("--health-interval 60 --drain 0 --vip fd00::1").applied(before.clone()).unwrap();
        let check = after.health.as_ref().unwrap();
        assert_eq!((check.interval_seconds.get(), check.timeout_seconds.get()), (60, 2));
        assert_eq!((after.drain_seconds, after.update), (0, before.update));
        let vips = Vips { v4: Some([10, 96, 0, 1].into()), v6: Some("fd00::1".parse().unwrap()) };
        assert_eq!(after.mode, Mode::Vip(vips));
    }

    #[test]
    fn parts_are_emptied_when_said() {
        let full = options("--port 80 -p 1:80 --selector a=b --affinity 1 --health-tcp 80");
        let full = full.applied(bare("web".parse().unwrap())).unwrap();
        let parts = [Part::Port, Part::Selector, Part::Affinity, Part::Health];
        assert_eq!(without(full, &parts), bare("web".parse().unwrap()));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        refused("--mode dnsrr --vip 10.96.0.1", "leave out --vip");
        refused("--vip 10.96.0.1 --vip 10.96.0.2", "leave one of each");
        refused("--health-interval 5", "--health-tcp or --health-http");
        refused("--port 80 --port 80", "80/tcp twice");
        refused("--affinity 25h", "at most a day");
    }
}
