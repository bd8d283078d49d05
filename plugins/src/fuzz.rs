//! The entry for fuzzing configurations: what every plugin makes of one, and plans that follow from it.

use std::path::PathBuf;

use zeugma_protocol::{CniCode, NetConf};
use zeugma_skel::{CniArgs, Request};

use crate::bridge::{self, Bridge};
use crate::dummy::Dummy;
use crate::host_device::HostDevice;
use crate::interface::{Kind, Place};
use crate::ipvlan::Ipvlan;
use crate::macvlan::Macvlan;
use crate::ptp::Ptp;
use crate::tap::Tap;
use crate::vlan::Vlan;
use crate::{firewall, portmap, resolver, sbr, tuning, vrf};

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
    must_tell(on_a_bridge(&request));
    must_tell(Ptp::of(&request));
    must_tell(Macvlan::of(&request));
    must_tell(Ipvlan::of(&request));
    must_tell(Vlan::of(&request));
    must_tell(Dummy::of(&request));
    must_tell(Tap::of(&request));
    must_tell(HostDevice::of(&request));
    must_tell(portmap::fuzz(&request));
    must_tell(firewall::fuzz(&request));
    must_tell(tuning::fuzz(&request));
    must_tell(sbr::fuzz(&request));
    must_tell(vrf::fuzz(&request));
    must_tell(resolver::fuzz(&request));
}

/// Plans an ADD with `prevResult` as what the IPAM gave.
fn on_a_bridge(request: &Request) -> Result<(), bridge::Error> {
    let config = Bridge::of(request)?;
    let given = request.conf.prev_result.clone().unwrap_or_default();
    let place = Place { attachment: request.attachment(), netns: None };
    let attached = Bridge::attached(&config, &place, given, &bridge::nothing())?;
    assert!(!attached.links.then(attached.addresses).to_string().is_empty());
    Ok(())
}

/// A refusal has words and a code.
fn must_tell<T>(outcome: Result<T, impl CniCode>) {
    if let Err(error) = outcome {
        assert!(!error.to_string().is_empty() && error.code().number() > 0);
    }
}
