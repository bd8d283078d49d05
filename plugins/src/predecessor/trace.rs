//! What the reference makes for an attachment and how it names it. Pure.
//!
//! Sources: `pkg/utils/utils.go`, `pkg/ip/ipmasq_*_linux.go`, `pkg/link/spoofcheck.go`, `plugins/meta/portmap` and
//! `plugins/meta/firewall` of github.com/containernetworking/plugins, 0.6 to 1.9.

use std::net::IpAddr;

use sha2::{Digest, Sha512};

/// Where `firewall` lets the traffic of containers through, in table `filter`.
pub(super) const FORWARD: &str = "CNI-FORWARD";
/// Where `portmap` jumps to the chains of containers, in table `nat`.
pub(super) const HOST_PORTS: &str = "CNI-HOSTPORT-DNAT";
/// The table of `portmap` with nftables.
pub(super) const NFT_PORTS: &str = "cni_hostport";
/// The table of masquerading with nftables.
pub(super) const NFT_MASQUERADE: &str = "cni_plugins_masquerade";
/// The length of chains' names.
const CHAIN_LENGTH: usize = 28;
/// The digits of a hash in a comment.
const COMMENT_DIGITS: usize = 16;

/// What one of the reference's plugins makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// `portmap`.
    Ports,
    /// `ipMasq`.
    Masquerade,
    /// `macspoofchk`.
    MacGuard,
    /// `firewall`.
    Forwarding,
}

/// What one plugin, or all of them, made for an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) network: String,
    pub(crate) container: String,
    /// None when it is not known.
    pub(crate) ifname: Option<String>,
    /// The container's; empty when they are not known.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) parts: Vec<Part>,
}

impl Trace {
    pub(crate) fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// The chains of published ports: today's, and the one that plugins before 0.7 made.
    pub(super) fn port_chains(&self) -> [String; 2] {
        ["CNI-DN-", "CNI-SN-"].map(|prefix| chain(prefix, &self.network, &self.container))
    }

    pub(super) fn masquerade_chain(&self) -> String {
        chain("CNI-", &self.network, &self.container)
    }

    /// All chains that are this container's alone on this network, in tables of iptables.
    pub(super) fn chains(&self) -> Vec<String> {
        let mut chains = Vec::new();
        if self.has(Part::Ports) {
            chains.extend(self.port_chains());
        }
        if self.has(Part::Masquerade) {
            chains.push(self.masquerade_chain());
        }
        chains
    }

    /// The chains of `macspoofchk` in table `bridge nat`.
    pub(super) fn guard_chains(&self) -> Vec<String> {
        let Some(ifname) = self.ifname.as_ref().filter(|_| self.has(Part::MacGuard)) else {
            return Vec::new();
        };
        let name = format!("cni-br-iface-{}-{ifname}", self.container);
        vec![format!("{name}-mac"), name]
    }

    /// The comment on rules of `macspoofchk`.
    pub(super) fn guard_comment(&self) -> Option<String> {
        let ifname = self.ifname.as_ref().filter(|_| self.has(Part::MacGuard))?;
        Some(format!("macspoofchk-{}-{ifname}", self.container))
    }

    /// How comments on masquerading rules of nftables begin.
    pub(super) fn masquerade_comment(&self) -> Option<String> {
        let ifname = self.ifname.as_ref().filter(|_| self.has(Part::Masquerade))?;
        let instance = digits(&format!("{ifname}:{}", self.container), COMMENT_DIGITS);
        Some(format!("{}-{instance}, ", digits(&self.network, COMMENT_DIGITS)))
    }
}

fn chain(prefix: &str, network: &str, container: &str) -> String {
    format!("{prefix}{}", digits(&format!("{network}{container}"), CHAIN_LENGTH - prefix.len()))
}

fn digits(text: &str, count: usize) -> String {
    let mut digits: String =
        Sha512::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    digits.truncate(count);
    digits
}

/// Whether a chain of table `nat` is some container's.
pub(super) fn is_of_a_container(chain: &str) -> bool {
    let hash = chain.strip_prefix("CNI-DN-").or_else(|| chain.strip_prefix("CNI-"));
    chain.len() == CHAIN_LENGTH && hash.is_some_and(|hash| hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Network and container of a comment of iptables' rules: `name: "mynet" id: "c1"`, of `portmap` with `dnat `
/// before it. Comments that were too long are cut and tell nothing.
pub(super) fn named_in(comment: &str) -> Option<(&str, &str)> {
    let rest = comment.strip_prefix("dnat ").unwrap_or(comment).strip_prefix("name: \"")?;
    rest.strip_suffix('"')?.split_once("\" id: \"")
}

/// Network, interface and container of a comment of nftables' masquerading rules.
pub(super) fn named_in_nft(comment: &str) -> Option<(&str, &str, &str)> {
    let (network, rest) = comment.split_once(", net: ")?.1.split_once(", if: ")?;
    let (ifname, container) = rest.split_once(", id: ")?;
    Some((network, ifname, container))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Trace {
        Trace {
            network: "mynet".into(),
            container: "c1".into(),
            ifname: Some("eth0".into()),
            addresses: Vec::new(),
            parts: vec![Part::Ports, Part::Masquerade, Part::MacGuard, Part::Forwarding],
        }
    }

    /// As the reference's 1.1.1 named them.
    #[test]
    fn chains_are_named_as_the_reference_names_them() {
        assert_eq!(trace().port_chains()[0], "CNI-DN-f0bca4ac77cde1bf2f3da");
        assert_eq!(trace().masquerade_chain(), "CNI-f0bca4ac77cde1bf2f3da5df");
        assert!(
            trace().chains().iter().filter(|name| !name.contains("SN")).all(|name| is_of_a_container(name))
        );
        for other in ["CNI-HOSTPORT-SETMARK", "CNI-HOSTPORT-DNAT", "CNI-FORWARD", "KUBE-POSTROUTING"] {
            assert!(!is_of_a_container(other), "{other}");
        }
    }

    #[test]
    fn comments_tell_whose_a_rule_is() {
        assert_eq!(named_in(r#"dnat name: "mynet" id: "c1""#), Some(("mynet", "c1")));
        assert_eq!(named_in(r#"name: "mynet" id: "c1""#), Some(("mynet", "c1")));
        assert_eq!(named_in("CNI portfwd masquerade mark"), None);
        assert_eq!(named_in(r#"dnat name: "mynet" id: "c1..."#), None);
        let comment = "0a-0b, net: mynet, if: eth0, id: c1";
        assert_eq!(named_in_nft(comment), Some(("mynet", "eth0", "c1")));
    }
}
