//! `dummy` gives the container an interface that leads nowhere, to hold addresses. User page: docs/plugins/dummy.md.

use zeugma_journal::Record;
use zeugma_kernel::Kernel;
use zeugma_model::{AttachmentId, Mac};
use zeugma_plan::{Link, LinkKind, Plan, Side, Step};
use zeugma_protocol::{CniResult, NetConf};
use zeugma_skel::Request;

use crate::interface::addressing::{self, Setup};
use crate::interface::{self, Attached, Error, Kind, Place};
use crate::ipam;

/// The plugin's kind of interface.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Dummy;

impl Kind for Dummy {
    type Config = ();
    type Facts = Mac;
    type Error = Error;
    const NAME: &'static str = "dummy";
    const LINK: &'static str = "dummy";

    fn of_network(conf: &NetConf) -> Result<(), Error> {
        match ipam::type_of(conf) {
            Some(_) => Ok(()),
            None => {
                Err(Error::Missing("ipam", "an interface that leads nowhere is of use only with addresses"))
            }
        }
    }

    fn of(request: &Request) -> Result<(), Error> {
        Self::of_network(&request.conf)
    }

    fn observe(_: &mut Kernel, _: &(), _: &Request) -> Result<Mac, Error> {
        let [mac] = interface::random_macs()?;
        Ok(mac)
    }

    fn attached(_: &(), place: &Place, given: CniResult, mac: &Mac) -> Result<Attached, Error> {
        let link = Link {
            side: Side::Container,
            name: place.ifname().clone(),
            mtu: None,
            mac: Some(*mac),
            alias: Some(place.attachment.alias()),
            kind: LinkKind::Dummy,
        };
        let mut addresses = Plan::new();
        addressing::steps(&mut addresses, place.ifname(), &given, &Setup::default())?;
        /// What the kernel gives every dummy.
        const MTU: u32 = 1500;
        Ok(Attached {
            links: Plan::from_iter([Step::CreateLink(link)]),
            addresses,
            record: interface::record(place, Some(*mac), &given),
            result: addressing::result(
                given,
                vec![addressing::in_container(place, Some(*mac), Some(MTU))],
                0,
            ),
        })
    }

    fn detached(id: &AttachmentId, _: &Record) -> Plan {
        interface::without_container_link(id)
    }

    fn check(_: &mut Kernel, _: &(), _: &Request, _: &CniResult) -> Result<(), Error> {
        Ok(())
    }

    fn ready(_: &mut Kernel, _: &()) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::testing::{self, planned};

    #[test]
    fn a_dummy_is_made_in_the_container() {
        insta::assert_snapshot!(planned::<Dummy>(r#"{"ipam": {"type": "static"}}"#, |config| {
            Dummy::attached(config, &testing::place(), testing::given(), &Mac([2, 0, 0, 0, 0, 9]))
        }));
    }
}
