//! The one list of what the reference plugins (containernetworking/plugins) are known to get wrong. A cell
//! that fails and stands here says `known` and not `FAIL`, unless the executables are zeugma's.

use super::rig::Plugin;

/// The reason why the reference is known to break `promise`, if it is.
pub(super) fn fault(promise: &str, plugin: Plugin) -> Option<&'static str> {
    let found = FAULTS.iter().find(|(whose, which, _)| *whose == plugin && *which == promise);
    found.map(|(_, _, reason)| *reason)
}

const CHECK_IPV6: &str =
    "looks for the IPv6 chain of a container without IPv6 addresses wherever ip6tables is installed (1.1.1)";

const CHAIN_RACE: &str = "the first ADDs of a host now and then race to create the same iptables chain";

const NETNS_FILE: &str = "locks the file at the namespace's path, and makes one where there is none";

const NO_DEVICE: &str = "DEL fails when the device is not in the container, and keeps the address";
const NO_NAMESPACE: &str = "DEL fails, or does nothing, without a namespace, and keeps the address";
const NOT_UNDONE: &str = "a failed ADD leaves the device in the container";

const FAULTS: &[(Plugin, &str, &str)] = &[
    (
        Plugin::Macvlan,
        "failing IPAM leaves no link",
        "a shadowed `err`: the link stays when the IPAM refuses",
    ),
    (Plugin::Ipvlan, "failing IPAM leaves no link", "the link stays when the IPAM refuses"),
    (Plugin::Macvlan, "CNI_ARGS MAC does not disturb the IPAM", "the delegate gets CNI_ARGS and refuses MAC"),
    (Plugin::Macvlan, "MAC: documented precedence of the sources", "does not read args.cni.mac"),
    (Plugin::Ptp, "IPv6 answers when ADD returns", "the host's own address is still tentative"),
    (Plugin::HostDevice, "DEL twice", NO_DEVICE),
    (Plugin::HostDevice, "DEL of what was never added", NO_DEVICE),
    (Plugin::HostDevice, "DEL after the namespace is gone", NO_NAMESPACE),
    (Plugin::HostDevice, "DEL with empty CNI_NETNS", NO_NAMESPACE),
    (Plugin::HostDevice, "existing ifname: refused, nothing changed", NOT_UNDONE),
    (Plugin::HostDevice, "failing IPAM leaves no link", NOT_UNDONE),
    (Plugin::Bridge, "failing IPAM leaves no link", "a shadowed `err`: the veth stays when the IPAM refuses"),
    (Plugin::Bridge, "CNI_ARGS MAC does not disturb the IPAM", "the delegate gets CNI_ARGS and refuses MAC"),
    (Plugin::Bridge, "IPv6 answers when ADD returns", "the bridge's own address is still tentative"),
    (
        Plugin::Loopback,
        "results have the shape of each cniVersion",
        "prints the newest shape, whatever version is asked for (1.1.1)",
    ),
    (Plugin::Portmap, "ADD, CHECK, DEL", CHECK_IPV6),
    (Plugin::Portmap, "CHECK fails after damage", CHECK_IPV6),
    (
        Plugin::Portmap,
        "the same with hairpinMode unset",
        "bridge leaves hairpin off unless hairpinMode is true",
    ),
    (Plugin::Firewall, "no residue: DEL without prevResult", "knows its rules from prevResult alone"),
    (Plugin::Portmap, "parallel ADDs: all succeed, addresses distinct", CHAIN_RACE),
    (Plugin::Firewall, "parallel ADDs: all succeed, addresses distinct", CHAIN_RACE),
    (
        Plugin::Sbr,
        "ADD, CHECK, DEL",
        "bridge's CHECK looks for the gateway in table main alone, where sbr has taken it from",
    ),
    (Plugin::Sbr, "DEL twice", "fails without the interface (1.1.1)"),
    (Plugin::Sbr, "DEL of what was never added", "fails without the interface (1.1.1)"),
    (Plugin::Sbr, "DEL after the namespace is gone", NETNS_FILE),
    (Plugin::Sbr, "DEL with empty CNI_NETNS", NETNS_FILE),
    (Plugin::Sbr, "no residue: namespace gone", NETNS_FILE),
    (Plugin::Sbr, "CHECK fails after damage", "looks at nothing"),
    (Plugin::Firewall, "ingressPolicy isolated", "came after 1.1.1"),
    (
        Plugin::Bandwidth,
        "CHECK fails after damage",
        "looks no further when the first queue of the link is no token bucket",
    ),
    (
        Plugin::Static,
        "CHECK misses an address",
        "compares the gateways of addresses that match, nothing else",
    ),
    (Plugin::Dhcp, "CHECK fails after damage", "asks for a lease instead of looking at prevResult"),
    (
        Plugin::Dhcp,
        "unknown CNI_ARGS: refused unless IgnoreUnknown",
        "does not read CNI_ARGS but for fromArg",
    ),
];
