//! What the servers stand on: a network with a gateway, containers in the journal, questions in files.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::servers::Server;
use crate::cni::{Chain, Container};
use crate::netns;

/// The gateway, where all servers listen.
pub(super) const GATEWAY: &str = "10.88.0.1";
/// Where questions come from: an address of the network that is nobody's, as aardvark-dns answers members alone.
pub(super) const CLIENT: &str = "10.88.0.2";
/// The domain of all names.
pub(super) const DOMAIN: &str = "dns.podman";
/// Where everything is written.
pub(super) const DIR: &str = "/run/bench";
/// The container that was attached for real; the others are its likes.
const FIRST: &str = "first000000000000000000000000000000000000000000000000000000000000";
const ATTACHMENTS: &str = "/run/zeugma/attachments/podman";
/// Questions in a file.
const QUESTIONS: usize = 20_000;

/// Which questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mix {
    A,
    /// Half A, a quarter AAAA, a quarter names that are not there.
    All,
}

/// A network with one container, whose records are the pattern of the others'.
pub(super) struct Ground {
    pub(super) bin_dir: PathBuf,
    pattern: (PathBuf, String),
    agent: Option<Server>,
    names: usize,
}

impl Ground {
    pub(super) fn new(bin_dir: &Path) -> Result<Self> {
        fs::create_dir_all(DIR)?;
        netns::ip("netns add first")?;
        let container = Container { id: FIRST.to_owned(), ..Container::named("first") };
        network(bin_dir, "podman", json!({"names": ["c-first"]})).add(&container, &[])?;
        netns::ip(&format!("address add {CLIENT}/32 dev lo"))?;
        Ok(Self { bin_dir: bin_dir.into(), pattern: pattern()?, agent: None, names: 0 })
    }

    /// The agent with so many names, started anew.
    pub(super) fn ours(&mut self, names: usize) -> Result<Server> {
        drop(self.agent.take());
        for number in names..self.names {
            fs::remove_dir_all(Path::new(ATTACHMENTS).join(id(number)))?;
        }
        for number in self.names..names {
            self.attach(number)?;
        }
        self.names = names;
        Server::agent(&self.bin_dir, names)
    }

    /// Takes the agent back, which goes on until the next one.
    pub(super) fn keep(&mut self, agent: Option<Server>) {
        self.agent = agent;
    }

    /// As an ADD would have left it.
    fn attach(&self, number: usize) -> Result<()> {
        let (path, record) = &self.pattern;
        let record = record
            .replace(FIRST, &id(number))
            .replace("c-first", &format!("c{number}"))
            .replace("10.88.0.3", &v4(number))
            .replace("fd88::2", &v6(number));
        let file = Path::new(ATTACHMENTS).join(id(number)).join(path);
        fs::create_dir_all(file.parent().context("a record is in a directory")?)?;
        Ok(fs::write(file, record)?)
    }
}

/// A network on a bridge, named after it, with names.
pub(super) fn network(bin_dir: &Path, name: &str, more: Value) -> Chain {
    let (v4, v6) = if name == "podman" {
        (json!({"subnet": "10.88.0.0/14", "rangeStart": "10.88.0.3"}), "fd88::/64")
    } else {
        (json!({"subnet": "10.96.0.0/16"}), "fd96::/64")
    };
    let ipam = json!({"type": "host-local", "ranges": [[v4], [{"subnet": v6}]]});
    let bridge = json!({"type": "bridge", "bridge": format!("b-{name}"), "isGateway": true, "ipam": ipam});
    let mut resolver = json!({"type": "resolver", "domain": DOMAIN});
    for (key, value) in more.as_object().into_iter().flatten() {
        resolver[key] = value.clone();
    }
    Chain {
        bin_dir: bin_dir.into(),
        version: "1.0.0",
        name: name.to_owned(),
        plugins: vec![json!({"type": "loopback"}), bridge, resolver],
    }
}

/// The first container's record of `resolver`: its path below the container's directory, and its content.
fn pattern() -> Result<(PathBuf, String)> {
    let interface = Path::new(ATTACHMENTS).join(FIRST).join("eth0");
    for file in fs::read_dir(&interface)? {
        let file = file?;
        let name = file.file_name();
        if name.to_string_lossy().ends_with("-resolver") {
            return Ok((Path::new("eth0").join(name), fs::read_to_string(file.path())?));
        }
    }
    anyhow::bail!("no record of `resolver` in {}", interface.display())
}

/// As long as those of real containers.
pub(super) fn id(number: usize) -> String {
    format!("{number:012x}{:052x}", number)
}

pub(super) fn v4(number: usize) -> String {
    format!("10.{}.{}.{}", 88 + (number + 256) / 65_536, (number + 256) / 256 % 256, number % 256)
}

pub(super) fn v6(number: usize) -> String {
    format!("fd88::1:{:x}:{:x}", number / 65_536, number % 65_536)
}

/// The file of such questions about so many names.
pub(super) fn questions(mix: Mix, names: usize) -> Result<PathBuf> {
    let path = Path::new(DIR).join(format!("{mix:?}-{names}"));
    if path.exists() {
        return Ok(path);
    }
    // xorshift: the same questions for everybody, in no order that a cache could like.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut text = String::new();
    for number in 0..QUESTIONS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let name = usize::try_from(state % 1_000_000_007)? % names;
        match number % 4 {
            1 if mix == Mix::All => writeln!(text, "c{name}.{DOMAIN} AAAA")?,
            3 if mix == Mix::All => writeln!(text, "none{name}.{DOMAIN} A")?,
            _ => writeln!(text, "c{name}.{DOMAIN} A")?,
        }
    }
    fs::write(&path, text)?;
    Ok(path)
}
