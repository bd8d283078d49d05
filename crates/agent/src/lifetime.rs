//! Begin and end, as the service manager hears of them (sd_notify(3)); without one nobody does.

use std::future::Future;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::error::Error;
use crate::figures::Figures;

/// Once a day: nobody watches.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs the agent until somebody ends it. Listeners stay open to the last, and with the service manager beyond.
pub(crate) async fn until_terminated(
    agent: impl Future<Output = ()>,
    mut figures: watch::Receiver<Figures>,
) -> Result<(), Error> {
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let ready = async {
        if figures.wait_for(|figures| figures.ready).await.is_ok() {
            tell(&[NotifyState::Ready, NotifyState::Status("names are served")]);
            tracing::info!("names are served");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = agent => {}
        () = ready => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tell(&[NotifyState::Stopping]);
    Ok(())
}

fn on(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).map_err(Error::Runtime)
}

/// Ticks twice as often as the service manager wants to hear of us.
pub(crate) fn watchdog() -> Interval {
    let mut ticks = interval(sd_notify::watchdog_enabled().map_or(NEVER, |within| within / 2));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Says that the loop turns.
pub(crate) fn is_alive() {
    if sd_notify::watchdog_enabled().is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager does not hear us");
    }
}
