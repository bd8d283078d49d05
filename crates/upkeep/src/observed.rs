//! What a host has, as far as a repair compares it.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use zeugma_model::IfName;
use zeugma_plan::nft::{Element, TableFamily};
use zeugma_plan::{LimitState, PortFlags, PortVlanState};

/// A host at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Our tables; none where they were not looked at.
    pub ruleset: Option<RulesetSeen>,
    /// All links.
    pub links: BTreeMap<IfName, LinkSeen>,
    /// Sysctls that were asked for and are there, by their files below `/proc/sys`.
    pub sysctls: BTreeMap<String, String>,
}

/// Our tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RulesetSeen {
    /// Those that are there.
    pub tables: BTreeMap<TableFamily, TableSeen>,
    /// All elements in them, whosever.
    pub elements: Vec<Element>,
}

/// One of our tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableSeen {
    /// The skeleton's version.
    pub version: u32,
    /// What it lacks, in words.
    pub lacks: Vec<String>,
    /// Whether a foreign set or chain stands in the place of ours.
    pub is_obstructed: bool,
}

/// A link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkSeen {
    /// Its kind: `bridge`, `veth`, …
    pub kind: String,
    /// Its mark.
    pub alias: String,
    /// Whether it is set up.
    pub up: bool,
    /// Bytes.
    pub mtu: u32,
    /// Whether it receives everything.
    pub promisc: bool,
    /// The bridge it is a port of.
    pub master: Option<IfName>,
    /// Its settings as such.
    pub port: PortFlags,
    /// Its VLANs as such.
    pub vlans: Vec<PortVlanState>,
    /// Whether it is a bridge that filters by VLAN.
    pub vlan_filtering: bool,
    /// Its addresses.
    pub addresses: Vec<IpNetwork>,
    /// The destinations of routes of ours by it.
    pub routes: Vec<IpNetwork>,
    /// The limit at its root, where one is wanted and there.
    pub limit: Option<LimitState>,
    /// Where what comes in is redirected to, where that is wanted and so.
    pub redirected_to: Option<IfName>,
}
