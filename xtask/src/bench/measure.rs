//! One measurement, many of them, and what is said of them.
//!
//! Times are of the wall and of the processor, of a process and all that it waited for.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::ptrace;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// How long something took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// Milliseconds by the clock on the wall.
    pub(crate) wall_ms: f64,
    /// Milliseconds of processor time, user and system.
    pub(crate) cpu_ms: f64,
}

/// Times `work`. Its processor time is that of child processes, so nothing else may be waited for meanwhile.
pub(crate) fn time<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Sample)> {
    let cpu = children_cpu()?;
    let started = Instant::now();
    let value = work()?;
    let wall = started.elapsed();
    let cpu = children_cpu()?.saturating_sub(cpu);
    Ok((value, Sample { wall_ms: wall.as_secs_f64() * 1e3, cpu_ms: cpu.as_secs_f64() * 1e3 }))
}

/// Runs it with `input` and returns the most memory it had, in kB: VmHWM when it is about to end.
///
/// Not ru_maxrss: for a process started by vfork that includes the memory of whoever started it.
pub(crate) fn peak_memory(command: &mut Command, input: &[u8]) -> Result<u64> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    // A plugin first reads its input, so it cannot have ended before it is watched.
    ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACEEXIT)?;
    child.stdin.take().context("stdin was piped")?.write_all(input)?;
    let mut peak = None;
    loop {
        match waitpid(pid, None)? {
            WaitStatus::PtraceEvent(..) => {
                peak = high_water(&fs::read_to_string(format!("/proc/{pid}/status"))?);
                ptrace::cont(pid, None)?;
            }
            WaitStatus::Stopped(_, signal) => ptrace::cont(pid, signal)?,
            WaitStatus::Exited(_, 0) => return peak.context("the kernel named no VmHWM"),
            status => bail!("the measured process ended badly: {status:?}"),
        }
    }
}

/// `VmHWM:      3456 kB` of proc(5)'s status.
fn high_water(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

fn children_cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let of = |time: TimeVal| Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or(0));
    Ok(of(usage.user_time()) + of(usage.system_time()))
}

/// Many samples of the same thing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series(pub(crate) Vec<Sample>);

impl Series {
    /// The median by the wall, in milliseconds.
    pub(crate) fn median(&self) -> Option<f64> {
        quantile(self.0.iter().map(|sample| sample.wall_ms), 50)
    }

    /// What 95 of 100 do not exceed by the wall, in milliseconds.
    pub(crate) fn p95(&self) -> Option<f64> {
        quantile(self.0.iter().map(|sample| sample.wall_ms), 95)
    }

    /// The mean of processor time in milliseconds: the kernel counts in ticks, single values say little.
    pub(crate) fn cpu(&self) -> Option<f64> {
        let count = u32::try_from(self.0.len()).ok().filter(|count| *count > 0)?;
        Some(self.0.iter().map(|sample| sample.cpu_ms).sum::<f64>() / f64::from(count))
    }

    /// As `[[wall, cpu], …]`, for the way between processes.
    pub(crate) fn to_json(&self) -> Value {
        self.0.iter().map(|sample| json!([sample.wall_ms, sample.cpu_ms])).collect()
    }

    /// Appends what [`to_json`](Self::to_json) wrote.
    pub(crate) fn extend_from_json(&mut self, value: &Value) {
        let sample = |pair: &Value| Some(Sample { wall_ms: pair[0].as_f64()?, cpu_ms: pair[1].as_f64()? });
        self.0.extend(value.as_array().into_iter().flatten().filter_map(sample));
    }
}

fn quantile(values: impl Iterator<Item = f64>, percent: usize) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(walls: &[f64]) -> Series {
        Series(walls.iter().map(|wall| Sample { wall_ms: *wall, cpu_ms: wall / 2.0 }).collect())
    }

    #[test]
    fn median_and_p95_are_values_that_occurred() {
        let all = series(&[3.0, 1.0, 2.0, 10.0]);
        assert_eq!((all.median(), all.p95(), all.cpu()), (Some(2.0), Some(10.0), Some(2.0)));
        assert_eq!((series(&[]).median(), series(&[]).cpu()), (None, None));
    }

    #[test]
    fn samples_survive_the_way_between_processes() {
        let mut back = Series::default();
        back.extend_from_json(&series(&[1.5, 2.5]).to_json());
        assert_eq!(back.0, series(&[1.5, 2.5]).0);
    }
}
