//! The plugins that `zeugma-cni` is: the one list that the executable, `zeugma install` and the build agree on.
//!
//! Names only; what a plugin does is in `plugins/src/<name>`.

/// Every plugin by its plain name, as a configuration's `type` has it.
pub const PLUGINS: &[&str] = &[
    "loopback",
    "bridge",
    "overlay",
    "ptp",
    "macvlan",
    "ipvlan",
    "vlan",
    "dummy",
    "tap",
    "host-device",
    "portmap",
    "firewall",
    "tuning",
    "bandwidth",
    "sbr",
    "vrf",
    "resolver",
    // What Podman looks for, and writes into its networks when it is there: `resolver` by another name.
    "dnsname",
    "host-local",
    "static",
    "dhcp",
];
