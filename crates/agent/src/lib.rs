//! The node agent: one process that keeps this host as the journal says.
//!
//! Journal in → desired → diff → apply, in one loop (`reconcile`). What is desired is decided without I/O (`desired`);
//! names are answered by `dns`, the kernel is touched by `kernel`. Nothing is kept here that the journal does not
//! say: an agent that is killed is replaced by the next one.

mod api;
mod desired;
mod error;
mod figures;
mod follow;
mod handover;
pub mod heal;
mod lifetime;
mod listeners;
mod log;
mod metrics;
mod networks;
mod overlay;
mod reconcile;
mod resolved;
mod scan;
mod serve;
mod services;
mod settings;
mod socket;
mod watch;
mod whole;

use std::sync::Arc;

use tokio::sync::{mpsc, watch as figure};
use zeugma_dns::server::{self, Resolver, Zones};
use zeugma_journal::{Journal, Lock, run_dir};

pub use error::Error;
pub use log::{LogFormat, log_to_stderr};
pub use overlay::{KeyError, fuzz_peers_file, public_key};
pub use settings::{Encryption, Etcd, Runtimes, Settings, Shared, host_name};
pub use zeugma_dns::server::ZoneFile;

use figures::Figures;
use reconcile::{Outlets, Reconciler};

/// What the loop has not got to yet; whoever has more to say waits.
const QUEUE: usize = 256;
/// Threads for what may wait for the kernel: opening sockets, reading the whole journal.
const BLOCKING_THREADS: usize = 4;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot begin: another agent runs, its socket cannot be made, or a zone file cannot be served.
pub fn run(settings: Settings) -> Result<(), Error> {
    zeugma_kernel::share_memory();
    let _lock = Lock::try_exclusive("agent")?.ok_or_else(|| Error::Running { run_dir: run_dir() })?;
    let handed_over = zeugma_kernel::handed_over()?;
    if let Err(error) = zeugma_kernel::raise_open_files() {
        tracing::warn!(%error, "many containers with sockets of their own may be too many");
    }
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime =
        runtime.enable_all().max_blocking_threads(BLOCKING_THREADS).build().map_err(Error::Runtime)?;
    runtime.block_on(agent(settings, handover::Inherited::new(handed_over)))
}

async fn agent(settings: Settings, inherited: handover::Inherited) -> Result<(), Error> {
    let (resolv_conf, zones) = (settings.resolv_conf.clone(), Zones::open(settings.zones.clone())?);
    let resolver = Resolver::start(server::Settings { resolv_conf, zones }).map_err(Error::Resolver)?;
    let resolver = Arc::new(resolver);
    let (sender, inbox) = mpsc::channel(QUEUE);
    let (figures, seen) = figure::channel(Figures::default());
    let socket = socket::ApiSocket::open(&run_dir())?;
    let healing = Arc::new(heal::Counters::default());
    let (services, events) = services::start(&settings, sender.clone())?;
    let lost = events.clone();
    let services_lost = move || drop(lost.send(services::Event::Lost));
    if let Err(error) = heal::run(healing.clone(), services_lost) {
        tracing::error!(%error, "the host is not mended: run `zeugma repair` where something is missing");
    }
    let overlays = overlay::Overlays::start(&settings, services.catalogue.clone(), seen.clone());
    let networks = networks::Networks::start(services.catalogue.clone(), settings.runtimes.clone());
    let routes = api::networks::router(networks).merge(api::overlays::router(overlays.clone()));
    let agent = api::Agent {
        loop_: sender.clone(),
        resolver: resolver.clone(),
        figures: seen.clone(),
        healing,
        services,
        overlays,
    };
    let local = tokio::spawn(serve::local(socket, api::router(agent.clone()).merge(routes)));
    let public = settings
        .listen_metrics
        .map(|address| tokio::spawn(serve::loopback(address, metrics::router(agent, seen.clone()))));
    watch::watch(run_dir().join("attachments"), sender.clone());
    let telling = services::Telling::new(events);
    let outlets = Outlets { resolver, host: resolved::start(), figures, services: telling };
    let reconciler = Reconciler::new(Journal::default(), outlets, sender, inherited);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), run_dir = %run_dir().display(), "the agent begins");
    let end = lifetime::until_terminated(reconciler.run(inbox), seen).await;
    local.abort();
    public.inspect(|task| task.abort());
    tracing::info!("the agent ends");
    end
}
