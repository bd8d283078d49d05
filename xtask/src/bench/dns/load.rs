//! Questions: many by dnsperf, single ones by hand.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::ground::{CLIENT, GATEWAY, Mix, questions};
use super::servers::Server;

/// Who asks is here.
const PROCESSOR: &str = "1";
/// How long one run takes.
const SECONDS: &str = "2";

/// A run of dnsperf.
pub(super) struct Load {
    mix: Mix,
    names: usize,
    /// Questions a second; none: as many as are answered.
    rate: Option<f64>,
}

/// What it found.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) completed: f64,
    pub(super) lost: f64,
    pub(super) rate: f64,
    /// The server's seconds of processor time.
    pub(super) cpu_s: f64,
    /// Milliseconds each, when the rate was set.
    pub(super) delays: Vec<f64>,
}

impl Load {
    pub(super) fn full(mix: Mix, names: usize) -> Self {
        Self { mix, names, rate: None }
    }

    pub(super) fn at(rate: f64, mix: Mix, names: usize) -> Self {
        Self { mix, names, rate: Some(rate) }
    }

    pub(super) fn run(&self, server: &Server) -> Result<Measured> {
        let mut command = self.command(server.port, SECONDS)?;
        if self.rate.is_some() {
            command.arg("-v");
        }
        let before = server.cpu()?;
        let output = command.output().context("cannot start dnsperf")?;
        let after = server.cpu()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "dnsperf: {text}{}", String::from_utf8_lossy(&output.stderr));
        Ok(Measured { cpu_s: after - before, ..read(&text)? })
    }

    /// dnsperf on the other processor.
    pub(super) fn command(&self, port: u16, seconds: &str) -> Result<Command> {
        let mut command = Command::new("taskset");
        command.args(["-c", PROCESSOR, "dnsperf", "-s", GATEWAY, "-a", CLIENT, "-p", &port.to_string()]);
        command.args(["-c", "8", "-T", "4", "-q", "200", "-l", seconds, "-d"]);
        command.arg(questions(self.mix, self.names)?);
        if let Some(rate) = self.rate {
            command.args(["-Q", &format!("{rate:.0}")]);
        }
        command.stdin(Stdio::null());
        Ok(command)
    }
}

/// What dnsperf says at its end, and of each question when it was asked to.
pub(super) fn read(text: &str) -> Result<Measured> {
    let number = |key: &str| -> Result<f64> {
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix(key));
        let line = line.with_context(|| format!("dnsperf said no {key:?}: {text:.300}"))?;
        Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
    };
    // `> NOERROR c1.dns.podman A 0.000123`
    let delay = |line: &str| line.strip_prefix("> ")?.rsplit(' ').next()?.parse::<f64>().ok();
    Ok(Measured {
        completed: number("Queries completed:")?,
        lost: number("Queries lost:")?,
        rate: number("Queries per second:")?,
        delays: text.lines().filter_map(delay).map(|seconds| seconds * 1e3).collect(),
        ..Measured::default()
    })
}

/// The A records of a name, as a client on the network gets them; none when nobody answers in time.
pub(super) fn ask(port: u16, name: &str, limit: Duration) -> Result<Option<Vec<Ipv4Addr>>> {
    let socket = UdpSocket::bind((CLIENT, 0))?;
    socket.set_read_timeout(Some(limit))?;
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len())?);
        question.extend(label.bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    socket.send_to(&question, (GATEWAY, port))?;
    let mut answer = [0; 512];
    let Ok(length) = socket.recv(&mut answer) else { return Ok(None) };
    // Records that point at the question's name: type, class, TTL and length take ten bytes.
    let records = answer[..length].get(question.len()..).unwrap_or_default();
    let count = usize::from(answer[7]);
    let address = |record: &[u8]| <[u8; 4]>::try_from(record.get(12..16)?).ok().map(Ipv4Addr::from);
    Ok(Some(records.chunks_exact(16).take(count).filter_map(address).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dnsperf_says_is_read() {
        let text = "> NOERROR c1.dns.podman A 0.000250\nStatistics:\n\n  Queries sent:         812\n  \
            Queries completed:    810 (99.75%)\n  Queries lost:         2 (0.25%)\n\n  Run time (s):         2.0\n  \
            Queries per second:   405.000000\n";
        let read = read(text).unwrap();
        assert_eq!((read.completed, read.lost, read.rate, read.delays), (810.0, 2.0, 405.0, vec![0.25]));
    }
}
