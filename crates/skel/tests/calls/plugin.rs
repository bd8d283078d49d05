//! A plugin that notes what it is asked, and the calls that the tests vary.

use std::cell::RefCell;

use serde_json::{Value, json};
use zeugma_protocol::{CniCode, CniResult, Code, Ip, Version};
use zeugma_skel::{Env, NetworkRequest, Plugin, Request, Response, respond};

#[derive(Debug, thiserror::Error)]
#[error("port 80 is taken")]
pub(crate) struct Taken;

impl CniCode for Taken {
    fn code(&self) -> Code {
        Code::Plugin(101)
    }

    fn details(&self) -> String {
        "by web".into()
    }
}

/// Gives `result`, or fails; `calls` are the verbs that reached it, with the namespace.
#[derive(Default)]
pub(crate) struct Noting {
    pub(crate) result: CniResult,
    pub(crate) fails: bool,
    pub(crate) calls: RefCell<Vec<String>>,
}

impl Noting {
    /// A plugin whose ADD gives one address.
    pub(crate) fn with_address() -> Self {
        let ip = Ip { address: "10.1.2.3/24".parse().unwrap(), gateway: None, interface: None };
        Self { result: CniResult { ips: vec![ip], ..CniResult::default() }, ..Self::default() }
    }

    fn note(&self, verb: &str, request: &Request) -> Result<(), Taken> {
        let netns = request.netns.as_ref().map_or("-".into(), |path| path.display().to_string());
        self.calls.borrow_mut().push(format!("{verb} {} {netns}", request.attachment()));
        if self.fails { Err(Taken) } else { Ok(()) }
    }

    fn note_network(&self, verb: &str, request: &NetworkRequest) -> Result<(), Taken> {
        self.calls.borrow_mut().push(format!("{verb} {}", request.conf.name));
        if self.fails { Err(Taken) } else { Ok(()) }
    }
}

impl Plugin for Noting {
    type Error = Taken;
    const NAME: &'static str = "noting";

    fn add(&self, request: &Request) -> Result<CniResult, Taken> {
        self.note("ADD", request).map(|()| self.result.clone())
    }

    fn del(&self, request: &Request) -> Result<(), Taken> {
        self.note("DEL", request)
    }

    fn check(&self, request: &Request) -> Result<(), Taken> {
        self.note("CHECK", request)
    }

    fn gc(&self, request: &NetworkRequest) -> Result<(), Taken> {
        self.note_network("GC", request)
    }

    fn status(&self, request: &NetworkRequest) -> Result<(), Taken> {
        self.note_network("STATUS", request)
    }

    fn dry_run(&self, request: &Request) -> Result<String, Taken> {
        self.note("dry run", request).map(|()| format!("attach {}\n", request.attachment()))
    }
}

/// The same, younger: it serves 0.4.0 and newer.
pub(crate) struct Young(pub(crate) Noting);

impl Plugin for Young {
    type Error = Taken;
    const NAME: &'static str = "young";
    const OLDEST: Version = Version::V0_4_0;

    fn add(&self, request: &Request) -> Result<CniResult, Taken> {
        self.0.add(request)
    }

    fn del(&self, request: &Request) -> Result<(), Taken> {
        self.0.del(request)
    }

    fn check(&self, request: &Request) -> Result<(), Taken> {
        self.0.check(request)
    }

    fn gc(&self, request: &NetworkRequest) -> Result<(), Taken> {
        self.0.gc(request)
    }

    fn status(&self, request: &NetworkRequest) -> Result<(), Taken> {
        self.0.status(request)
    }

    fn dry_run(&self, request: &Request) -> Result<String, Taken> {
        self.0.dry_run(request)
    }
}

/// A complete environment for `command`.
pub(crate) fn env(command: &str) -> Env {
    Env {
        command: command.into(),
        container: "one".into(),
        netns: "/run/netns/one".into(),
        ifname: "eth0".into(),
        args: String::new(),
        path: "/opt/cni/bin:/usr/lib/cni".into(),
        own_netns: false,
    }
}

/// A configuration of `version`.
pub(crate) fn conf(version: &str) -> String {
    json!({ "cniVersion": version, "name": "net", "type": "noting" }).to_string()
}

pub(crate) fn stdout(response: &Response) -> Value {
    serde_json::from_slice(&response.stdout).unwrap_or_default()
}

/// The call fails with this error object, and nothing reaches the plugin.
#[track_caller]
pub(crate) fn check_refused(env: &Env, stdin: &str, expected: Value) {
    let plugin = Noting::with_address();
    let response = respond(env, stdin.as_bytes(), &plugin);
    assert_eq!((stdout(&response), response.exit), (expected, 1));
    assert_eq!(*plugin.calls.borrow(), [] as [String; 0]);
}
