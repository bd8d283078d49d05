//! How the kernel is brought to what is desired: devices, then what is on them, then what the plugin works from. What is
//! desired, and when it is looked at again: turn.rs.

use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use zeugma_kernel::overlay as kernel;
use zeugma_model::NetworkName;
use zeugma_overlay::Desired;

use super::director::Director;
use super::known::Known;
use super::mine::{self, Kept};
use super::repairs::Repairs;
use super::secrets;
use super::written::{self, Broken};

/// Between two looks whether the kernel has all that it is to have, when nothing else changes.
pub(super) const REPAIR: Duration = Duration::from_secs(30);
/// Before what did not work is tried again.
pub(super) const AGAIN: Duration = Duration::from_secs(2);

/// How much of what is known is certain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Extent {
    /// It is all that there is to be: the rest goes.
    #[default]
    Whole,
    /// What is there may be newer: it stays, and what is missing is added.
    Additions,
}

/// What the kernel was brought to.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) desired: Desired,
    devices: Vec<kernel::WireguardDevice>,
    extent: Extent,
    /// When; none: not yet, or somebody changed something since.
    pub(super) at: Option<Instant>,
    pub(super) problems: Vec<String>,
    pub(super) repairs: Repairs,
}

impl Director {
    /// Between two looks at everything when nothing is heard of.
    pub(super) fn pause(&self) -> Duration {
        let is_well = self.settled.problems.is_empty() && self.kept.blocks == self.mine;
        if is_well { REPAIR } else { AGAIN }
    }

    /// Writes down this node's blocks before anything is given out of them; what is not kept, and why.
    pub(super) async fn keep(&mut self) -> Vec<(NetworkName, String)> {
        let networks = mine::networks(&self.mine, &self.known.networks);
        if self.kept.blocks == self.mine && self.kept.networks == networks {
            return Vec::new();
        }
        let catalogue = self.catalogue.id.get().cloned().unwrap_or_default();
        let now = Kept { catalogue, blocks: self.mine.clone(), networks };
        let (directory, written) = (self.place.state_dir.clone(), now.clone());
        let kept = spawn_blocking(move || mine::write(&directory, &written)).await;
        match kept.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(()) => {
                self.kept = now;
                Vec::new()
            }
            Err(error) => {
                tracing::debug!(error, "this node's blocks are not kept for the next start");
                mine::unkept(&self.mine, &self.kept.blocks, &error)
            }
        }
    }

    /// Brings the kernel to `desired`, and then what the plugin works from.
    pub(super) async fn settle(&mut self, desired: Desired, known: &Known, extent: Extent) {
        let devices = match self.keys() {
            Ok(keys) => secrets::devices(&desired, keys.current()),
            Err(_) => Vec::new(),
        };
        let before = &self.settled;
        let is_so = before.desired == desired
            && before.devices == devices
            && before.extent == extent
            && self.devices.all_run();
        if is_so && before.at.is_some_and(|at| at.elapsed() < self.pause()) {
            return;
        }
        if !is_so {
            self.probes.follow(&desired);
        }
        let (mut problems, mut broken) = self.settle_devices(&devices, extent).await;
        match self.settle_objects(&desired, extent, is_so).await {
            Ok(settled) => {
                settled.changed.iter().for_each(|line| tracing::debug!("{line}"));
                if is_so {
                    self.settled.repairs.made(&settled.changed, Instant::now());
                }
                problems.extend(settled.failures);
                self.checksums.begin(&desired);
                broken.links.extend(settled.missing);
                broken.unguarded = settled.unguarded;
                // What there is for the plugin may be newer as well.
                if extent == Extent::Whole {
                    problems.extend(self.write_down(&desired, known, broken).await);
                }
            }
            Err(error) => problems.push(error.to_string()),
        }
        let settled = &mut self.settled;
        settled.at = Some(Instant::now());
        (settled.desired, settled.devices, settled.extent, settled.problems) =
            (desired, devices, extent, problems);
    }

    /// What does not work, a line each, and which devices those are.
    async fn settle_devices(
        &mut self,
        devices: &[kernel::WireguardDevice],
        extent: Extent,
    ) -> (Vec<String>, Broken) {
        let (mut problems, mut broken) = (Vec::new(), Broken::default());
        for device in devices {
            if let Err(told) = self.devices.settle(device, extent).await {
                problems.push(told);
                broken.links.insert(device.link.clone());
            }
        }
        if extent == Extent::Whole {
            self.devices.retain(devices);
        }
        (problems, broken)
    }

    async fn settle_objects(
        &mut self,
        desired: &Desired,
        extent: Extent,
        is_so: bool,
    ) -> Result<kernel::Settled, zeugma_kernel::Error> {
        let kernel = self.kernel()?;
        if is_so {
            kernel.forget();
        }
        match extent {
            Extent::Whole => kernel.settle(desired).await,
            Extent::Additions => kernel.complete(desired).await,
        }
    }

    async fn write_down(&self, desired: &Desired, known: &Known, broken: Broken) -> Vec<String> {
        let (files, states) = (self.states.clone(), written::states(desired, &known.networks));
        let kept = self.kept.blocks.clone();
        let written = spawn_blocking(move || written::write(&files, states, &broken, &kept)).await;
        written.unwrap_or_default()
    }

    pub(super) fn kernel(&mut self) -> Result<&mut kernel::Overlays, zeugma_kernel::Error> {
        match &mut self.kernel {
            Some(kernel) => Ok(kernel),
            none => Ok(none.insert(kernel::Overlays::open()?)),
        }
    }
}
