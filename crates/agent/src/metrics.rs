//! Metrics for Prometheus, and health.

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use zeugma_dns::server::Stats;

use crate::api::{Agent, Refused, refused};
use crate::figures::Figures;
use crate::heal::Counters;
use crate::reconcile::Message;
use crate::services::ServiceFigures;

/// OpenMetrics text, which Prometheus reads as its own.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Public {
    agent: Agent,
    figures: watch::Receiver<Figures>,
}

/// `/metrics`, `/healthz`, `/readyz`: nothing that a local user might not know.
pub(crate) fn router(agent: Agent, figures: watch::Receiver<Figures>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(Public { agent, figures })
}

async fn metrics(State(public): State<Public>) -> Result<([(HeaderName, &'static str); 1], String), Refused> {
    let mut figures = public.figures.borrow().clone();
    figures.zones_failed = public.agent.resolver.zone_problems().len();
    let agent = &public.agent;
    let services = Balanced {
        figures: agent.services.figures.borrow().clone(),
        is_degraded: agent.services.store().degraded_since.is_some(),
    };
    let text = page(figures, services, agent.resolver.stats(), &agent.healing);
    let text = text.map_err(|error| refused(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    Ok(([(CONTENT_TYPE, TEXT)], text))
}

fn page(
    figures: Figures,
    services: Balanced,
    stats: Stats,
    healing: &Counters,
) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("zeugma_agent");
    registry.register("build", "The agent's version", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    registry.register_collector(Box::new(Counted(figures)));
    registry.register_collector(Box::new(Healed::of(healing)));
    registry.register_collector(Box::new(services));
    registry.register_collector(Box::new(Answered(stats)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// The loop turns.
async fn healthz(State(public): State<Public>) -> Result<&'static str, Refused> {
    public.agent.ask(Message::Problems).await.map(|_| "ok\n")
}

/// The journal was read and names are served.
async fn readyz(State(public): State<Public>) -> Result<&'static str, Refused> {
    match public.figures.borrow().ready {
        true => Ok("ok\n"),
        false => Err(refused(StatusCode::SERVICE_UNAVAILABLE, "the journal is being read")),
    }
}

/// Figures as metrics.
#[derive(Debug)]
struct Counted(Figures);

impl Collector for Counted {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Self(now) = self;
        let seconds = |time: std::time::SystemTime| {
            time.duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
        };
        let gauges: [(&str, &str, f64); 9] = [
            ("attachments", "Attachments in the journal", now.attachments as f64),
            ("networks", "Networks that have names", now.networks as f64),
            ("names", "Names and aliases of all containers", now.names as f64),
            ("listeners_open", "Addresses at which questions are answered", now.listeners_open as f64),
            (
                "listeners_failed",
                "Addresses that could not be opened or are claimed twice",
                now.listeners_failed as f64,
            ),
            ("zones_failed", "Zone files that cannot be read: served as before", now.zones_failed as f64),
            (
                "last_diff_timestamp_seconds",
                "When the whole journal was last compared",
                now.last_diff.map_or(0.0, seconds),
            ),
            ("last_diff_duration_seconds", "How long that took", now.last_diff_took.as_secs_f64()),
            ("ready", "1 once the journal was read and names are served", f64::from(u8::from(now.ready))),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let counters: [(&str, &str, u64); 2] = [
            ("generation", "Changes of names", now.generation),
            ("missed_changes", "Changes that only the periodic comparison found", now.missed),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

/// What the healing loop counts.
#[derive(Debug)]
struct Healed {
    counts: [u64; 3],
    last: Option<(std::time::SystemTime, std::time::Duration)>,
}

impl Healed {
    fn of(counters: &Counters) -> Self {
        let counts = [counters.repairs(), counters.failures(), counters.comparisons()];
        Self { counts, last: counters.last() }
    }
}

impl Collector for Healed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let names = [
            ("repairs", "How often something on the host was mended"),
            ("repair_failures", "How often something could not be mended"),
            ("comparisons", "How often the host was compared with the journal"),
        ];
        for ((name, help), count) in names.into_iter().zip(self.counts) {
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let since = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).ok();
        let when = self.last.and_then(|(when, _)| since(when)).unwrap_or_default();
        let took = self.last.map(|(_, took)| took).unwrap_or_default();
        let gauges = [
            ("last_comparison_timestamp_seconds", "When that was last", when.as_secs_f64()),
            ("last_comparison_duration_seconds", "How long it took, repairs included", took.as_secs_f64()),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// What the director of services counts.
#[derive(Debug, Default)]
struct Balanced {
    figures: ServiceFigures,
    is_degraded: bool,
}

impl Collector for Balanced {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let now = &self.figures;
        let truth = |is_so: bool| f64::from(u8::from(is_so));
        let gauges = [
            ("services", "Services in the catalogue", now.services as f64),
            ("service_endpoints", "Endpoints of all services", now.endpoints as f64),
            ("services_ready", "1 while the kernel has what it is to have of services", truth(now.ready)),
            ("service_problems", "What does not work of services", now.problems.len() as f64),
            ("catalogue_degraded", "1 while the catalogue does not answer", truth(self.is_degraded)),
            (
                "service_sync_seconds",
                "How long the last comparison of services with the kernel took, changes included",
                now.last_sync_took.as_secs_f64(),
            ),
            (
                "service_change_seconds",
                "How long the last change of services took to get into the kernel",
                now.last_change_took.as_secs_f64(),
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let counters = [
            ("service_syncs", "Comparisons of services with the kernel", now.syncs),
            ("service_changes", "Changes of services that got into the kernel", now.changes),
            ("service_failures", "Changes of services that the kernel refused", now.failures),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

/// What the resolver counts.
#[derive(Debug)]
struct Answered(Stats);

impl Collector for Answered {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Self(stats) = self;
        let counters = [
            ("dns_udp_queries", "Questions that came as datagrams", stats.udp_queries),
            ("dns_tcp_queries", "Questions that came over TCP", stats.tcp_queries),
            ("dns_malformed", "Messages that are no questions, dropped", stats.malformed),
            ("dns_unsent", "Replies that the kernel did not take", stats.unsent),
            ("dns_strangers", "Questions from who is not on the network, refused", stats.strangers),
            ("dns_zone_answers", "Questions about zones of the operator's", stats.zone_answers),
            ("dns_forwarded", "Questions that others were asked", stats.forwarded),
            ("dns_cache_hits", "Questions about the outside that the cache answered", stats.cache_hits),
            ("dns_stale", "Answers past their time, for want of newer ones", stats.stale),
            (
                "dns_forward_failures",
                "Questions about the outside that nobody answered",
                stats.forward_failures,
            ),
            ("dns_limited", "Questions about the outside refused as too many", stats.limited),
            ("dns_tcp_connections", "TCP connections taken", stats.tcp_connections),
            ("dns_tcp_refused", "TCP connections closed at once", stats.tcp_refused),
            ("dns_tcp_cut", "TCP connections cut off as too slow or senseless", stats.tcp_cut),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let help = "Answers by their code";
        let mut answers = encoder.encode_descriptor("dns_answers", help, None, MetricType::Counter)?;
        for (code, count) in &stats.answers {
            ConstCounter::new(*count).encode(answers.encode_family(&[("code", code.mnemonic())])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_user_page_has_every_metric_and_no_other() {
        let page =
            page(Figures::default(), Balanced::default(), Stats::default(), &Counters::default()).unwrap();
        let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let served: BTreeSet<String> = types
            .map(|(name, kind)| match kind {
                "counter" => format!("{name}_total"),
                "info" => format!("{name}_info"),
                _ => name.into(),
            })
            .collect();
        let words = include_str!("../../../docs/agent.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `zeugma_agent"));
        let told: BTreeSet<String> =
            words.filter_map(|line| Some(format!("zeugma_agent{}", line.split_once('`')?.0))).collect();
        assert_eq!(served, told);
    }
}
