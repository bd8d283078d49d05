//! The interface below: macvlans, ipvlans and VLANs share its wire.

use zeugma_journal::Record;
use zeugma_kernel::{Kernel, LinkState};
use zeugma_model::{AttachmentId, IfName, Mac};
use zeugma_plan::{Link, LinkKind, MacvlanMode, Plan, Sharing, Side, Step};
use zeugma_protocol::CniResult;

use super::addressing::{self, DuplicateDetection, Setup};
use super::{Attached, Error, Place};

/// Which interface is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ParentName {
    /// This one.
    Named(IfName),
    /// The one that the default route leaves by.
    DefaultRoute,
}

impl ParentName {
    /// `master`, empty for the default route's.
    pub(crate) fn parse(master: Option<&str>) -> Result<Self, Error> {
        match master.filter(|name| !name.is_empty()) {
            Some(name) => Ok(Self::Named(name.parse().map_err(Error::MasterName)?)),
            None => Ok(Self::DefaultRoute),
        }
    }

    /// The single interface of the plugin before, where `master` names none.
    pub(crate) fn or_previous(self, previous: Option<&CniResult>) -> Result<Self, Error> {
        match (self, previous) {
            (Self::DefaultRoute, Some(result)) => match &result.interfaces[..] {
                [one] if !one.name.is_empty() => {
                    Ok(Self::Named(one.name.parse().map_err(Error::MasterName)?))
                }
                several => Err(Error::AmbiguousParent(several.len())),
            },
            (name, _) => Ok(name),
        }
    }
}

/// The interface below as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) side: Side,
    pub(crate) name: IfName,
    pub(crate) state: LinkState,
}

impl Parent {
    /// Looks for it.
    pub(crate) fn find(kernel: &mut Kernel, side: Side, name: &ParentName) -> Result<Self, Error> {
        let (name, state) = match name {
            ParentName::Named(name) => (name.clone(), kernel.link(side, name)?),
            ParentName::DefaultRoute => {
                let (name, state) = kernel.default_link(side)?.ok_or(Error::NoDefaultRoute(side))?;
                (name, Some(state))
            }
        };
        match state {
            Some(state) => Ok(Self { side, name, state }),
            None => Err(Error::NoParent { name, side }),
        }
    }

    /// The MTU of a child: what was asked for, else its own, which is also the most.
    pub(crate) fn mtu(&self, asked: Option<u32>) -> Result<u32, Error> {
        const LEAST: u32 = 68;
        let most = self.state.mtu;
        match asked {
            Some(mtu) if !(LEAST..=most).contains(&mtu) => Err(Error::Mtu { mtu, least: LEAST, most }),
            Some(mtu) => Ok(mtu),
            None => Ok(most),
        }
    }
}

/// Where a parent is looked for.
pub(crate) fn parent_side(in_container: bool) -> Side {
    if in_container { Side::Container } else { Side::Host }
}

/// An interface that shares its parent's wire, decided.
#[derive(Debug, Clone)]
pub(crate) struct Child<'a> {
    pub(crate) parent: &'a Parent,
    pub(crate) sharing: Sharing,
    /// Its Ethernet address, where it has one of its own.
    pub(crate) mac: Option<Mac>,
    /// Bytes; none: the parent's.
    pub(crate) mtu: Option<u32>,
    pub(crate) duplicate_detection: DuplicateDetection,
}

impl Child<'_> {
    /// Plans its ADD. It is born in the container; where it is made from the host, under a name that the host has
    /// not either: kernels before 6.15 look for the name there, too.
    pub(crate) fn attached(&self, place: &Place, given: CniResult) -> Result<Attached, Error> {
        let mtu = self.parent.mtu(self.mtu)?;
        let link = Link {
            side: Side::Container,
            name: self.first_name(place),
            mtu: Some(mtu),
            mac: self.mac,
            // The kernel marks a link only where it lives: when it is set up.
            alias: None,
            kind: LinkKind::Child {
                parent: (self.parent.side, self.parent.name.clone()),
                sharing: self.sharing,
            },
        };
        let setup = Setup {
            duplicate_detection: self.duplicate_detection,
            mark: Some(place.attachment.alias()),
            mac: self.mac.filter(|_| self.is_passthru()),
            ..Setup::default()
        };
        let mut addresses = Plan::new();
        addressing::steps(&mut addresses, place.ifname(), &given, &setup)?;
        let interface = addressing::in_container(place, self.mac, Some(mtu));
        let name = link.name.clone();
        let mut links = Plan::from_iter([Step::CreateLink(link)]);
        if name != *place.ifname() {
            links.push(Step::RenameLink(Side::Container, name, place.ifname().clone()));
        }
        Ok(Attached {
            links,
            addresses,
            record: Record { parent: self.host_parent(), ..super::record(place, self.mac, &given) },
            result: addressing::result(given, vec![interface], 0),
        })
    }
}

impl Child<'_> {
    fn host_parent(&self) -> Option<IfName> {
        (self.parent.side == Side::Host).then(|| self.parent.name.clone())
    }

    fn first_name(&self, place: &Place) -> IfName {
        match self.parent.side {
            Side::Host => newborn(&place.attachment),
            Side::Container => place.ifname().clone(),
        }
    }

    /// Such a macvlan takes its parent's address over when it is made; another one is set afterwards, on both.
    fn is_passthru(&self) -> bool {
        matches!(self.sharing, Sharing::Macvlan { mode: MacvlanMode::Passthru, .. })
    }
}

/// What a record of an interface that lives in the container alone has.
pub(crate) fn record(place: &Place, mac: Option<Mac>, given: &CniResult) -> Record {
    Record {
        netns: place.netns.clone(),
        mac,
        addresses: given.ips.iter().map(|ip| ip.address).collect(),
        ..Record::default()
    }
}

/// DEL of an interface that lives in the container alone.
pub(crate) fn without_container_link(id: &AttachmentId) -> Plan {
    Plan::from_iter([Step::DeleteLink(Side::Container, id.ifname.clone())])
}

/// DEL of a child, and of one that did not come to its final name.
pub(crate) fn without_child(id: &AttachmentId) -> Plan {
    without_container_link(id).then(Plan::from_iter([Step::DeleteLink(Side::Container, newborn(id))]))
}

/// The name of a child before it has its own.
fn newborn(id: &AttachmentId) -> IfName {
    id.hashed_name("new")
}

/// STATUS of a plugin that needs a parent: one in a container can be looked for only when there is one.
pub(crate) fn ready(kernel: &mut Kernel, side: Side, name: &ParentName) -> Result<(), Error> {
    match side {
        Side::Host => {
            Parent::find(kernel, side, name).map(drop).map_err(|error| Error::not_available(&error))
        }
        Side::Container => Ok(()),
    }
}
