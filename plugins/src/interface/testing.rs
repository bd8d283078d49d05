//! What the unit tests of the interface plugins share: one container, one parent, one IPAM's answer.

use zeugma_kernel::LinkState;
use zeugma_model::{AttachmentId, Mac};
use zeugma_plan::Side;
use zeugma_protocol::{CniResult, Ip, NetConf};

use super::{Attached, Kind, Parent, Place};

/// `one`'s eth0 in the network `net`.
pub(crate) fn place() -> Place {
    let attachment = AttachmentId {
        network: "net".parse().unwrap(),
        container: "one".parse().unwrap(),
        ifname: "eth0".parse().unwrap(),
    };
    Place { attachment, netns: None }
}

/// An address of each family, the first with a gateway.
pub(crate) fn given() -> CniResult {
    let ip = |address: &str, gateway: Option<&str>| Ip {
        address: address.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        interface: None,
    };
    let ips = vec![ip("10.1.0.2/24", Some("10.1.0.1")), ip("2001:db8::2/64", None)];
    CniResult { ips, ..CniResult::default() }
}

/// The host's eth0.
pub(crate) fn parent() -> Parent {
    let state = LinkState {
        index: 2,
        mtu: 1500,
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        up: true,
        ..LinkState::default()
    };
    Parent { side: Side::Host, name: "eth0".parse().unwrap(), state }
}

fn config<K: Kind>(keys: &str) -> Result<K::Config, K::Error> {
    let mut conf = serde_json::json!({"cniVersion": "1.1.0", "name": "net", "type": K::NAME});
    let keys: serde_json::Value = serde_json::from_str(keys).unwrap();
    conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    K::of_network(&NetConf::parse(conf.to_string().as_bytes()).unwrap())
}

/// What an ADD does and answers, as text.
pub(crate) fn planned<K: Kind>(
    keys: &str,
    attached: impl FnOnce(&K::Config) -> Result<Attached, K::Error>,
) -> String {
    let config = config::<K>(keys).unwrap_or_else(|error| panic!("{error}"));
    let Attached { links, addresses, result, .. } =
        attached(&config).unwrap_or_else(|error| panic!("{error}"));
    let interfaces: Vec<String> = result
        .interfaces
        .iter()
        .map(|interface| format!("{} mac {:?} mtu {:?}", interface.name, interface.mac, interface.mtu))
        .collect();
    format!("{links}--\n{addresses}--\n{}", interfaces.join("\n"))
}

/// A configuration is refused with this beginning of a message.
pub(crate) fn refused<K: Kind>(keys: &str, expected: &str) {
    match config::<K>(keys) {
        Ok(_) => panic!("{keys} was accepted"),
        Err(error) => assert!(error.to_string().starts_with(expected), "{error}"),
    }
}
