//! An attachment: one interface of one container on one network. Every kernel object that zeugma makes for
//! it bears a name or mark that is made here.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};

use crate::{ContainerId, IfName, NetworkName};

/// The longest comment that nftables keeps on an element (`NFTNL_UDATA_COMMENT_MAXLEN` less the NUL).
const COMMENT_BYTES: usize = 127;

/// Network × container × interface name: what the CNI specification calls an attachment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttachmentId {
    /// The network.
    pub network: NetworkName,
    /// The container.
    pub container: ContainerId,
    /// The interface inside the container.
    pub ifname: IfName,
}

impl AttachmentId {
    /// The owner mark on nftables elements: readable as long as it fits into 127 bytes, else its SHA-256.
    pub fn owner(&self) -> String {
        let readable = self.to_string();
        if readable.len() <= COMMENT_BYTES { readable } else { format!("sha256:{}", hex(&self.digest(), 32)) }
    }

    /// The mark on links (`ip link … alias`). It may be longer than an element's comment (255 bytes).
    pub fn alias(&self) -> String {
        format!("zeugma {}", self.owner())
    }

    /// The host side of the container's veth pair: `veth` and 11 hex digits, the same for the same attachment,
    /// so that even an attachment without a journal can be found again.
    pub fn host_veth(&self) -> IfName {
        self.hashed_name("veth")
    }

    /// `prefix` filled up with hex digits of this attachment's hash to the 15 bytes of an interface name.
    ///
    /// `prefix` holds at most 14 bytes of an interface name.
    pub fn hashed_name(&self, prefix: &str) -> IfName {
        let digits = 15usize.saturating_sub(prefix.len());
        let mut name = format!("{prefix}{}", hex(&self.digest(), 8));
        name.truncate(prefix.len() + digits.min(16));
        name.parse().expect("a short prefix and hex digits are an interface name")
    }

    /// The ifb of the container's outgoing traffic, named as the reference names it: `bwp` and 12 hex digits of the
    /// SHA-512 of network and container. All interfaces of the container on this network have the same.
    pub fn ifb(&self) -> IfName {
        let digest: [u8; 64] = Sha512::digest(format!("{}{}", self.network, self.container)).into();
        let digits: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        format!("bwp{digits}").parse().expect("three letters and 12 hex digits are an interface name")
    }

    /// The bridge's end of the veth pair that is the host's gateway of a VLAN, by the gateway's name.
    pub fn gateway_port(gateway: &IfName) -> IfName {
        let mut name = format!("veth{}", hex(&Sha256::digest(gateway.as_str().as_bytes()).into(), 8));
        name.truncate(15);
        name.parse().expect("a short prefix and hex digits are an interface name")
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_string().as_bytes()).into()
    }
}

/// `network/container/ifname`: no part can hold a `/`.
impl fmt::Display for AttachmentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.network, self.container, self.ifname)
    }
}

fn hex(bytes: &[u8; 32], count: usize) -> String {
    bytes.iter().take(count).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(container: &str) -> AttachmentId {
        AttachmentId {
            network: "net".parse().unwrap(),
            container: container.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        }
    }

    #[test]
    fn names_fit_the_kernel_and_differ_by_container() {
        let (one, two) = (attachment("one"), attachment("two"));
        assert_eq!(one.host_veth().as_str().len(), 15);
        assert_eq!(one.host_veth(), attachment("one").host_veth());
        assert_ne!(one.host_veth(), two.host_veth());
        let gateway = AttachmentId::gateway_port(&"cni0.10".parse().unwrap());
        assert_eq!(gateway.as_str().len(), 15);
        assert_ne!(gateway, AttachmentId::gateway_port(&"cni0.11".parse().unwrap()));
    }

    #[test]
    fn ifbs_are_named_as_the_reference_names_them() {
        // printf %s netone | sha512sum | cut -c-12
        assert_eq!(attachment("one").ifb().as_str(), "bwp872ac0255154");
    }

    #[test]
    fn owners_are_readable_until_they_are_too_long() {
        assert_eq!(attachment("one").owner(), "net/one/eth0");
        let long = attachment(&"x".repeat(200)).owner();
        assert!(long.starts_with("sha256:") && long.len() <= COMMENT_BYTES, "{long}");
    }
}
