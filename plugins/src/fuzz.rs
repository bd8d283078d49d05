//! The entry for fuzzing configurations: what every plugin makes of one, and the plans that follow from it.

use std::path::PathBuf;

use zeugma_protocol::{CniCode, NetConf};
use zeugma_skel::{CniArgs, Request};

/// Reads `input` as a configuration for every plugin. Nothing of the machine is looked at or touched.
pub fn fuzz_plugins(input: &[u8]) {
    let Ok(conf) = NetConf::parse(input) else { return };
    let request = Request {
        conf,
        container: "fuzz".parse().expect("a container ID"),
        netns: Some(PathBuf::from("/nowhere")),
        ifname: "eth0".parse().expect("an interface name"),
        args: CniArgs::default(),
        path: Vec::new(),
        stdin: Vec::new(),
    };
    must_tell(request.identity());
    must_tell(crate::bridge::fuzz(&request));
    must_tell(crate::portmap::fuzz(&request));
    must_tell(crate::firewall::fuzz(&request));
    must_tell(crate::tuning::fuzz(&request));
}

/// A refusal has words and a code.
fn must_tell<T>(outcome: Result<T, impl CniCode>) {
    if let Err(error) = outcome {
        assert!(!error.to_string().is_empty() && error.code().number() > 0);
    }
}
