//! Whether the ranges of virtual addresses are the host's already, in part.

use ipnetwork::IpNetwork;
use zeugma_kernel::{Error, Kernel};
use zeugma_plan::Side;

/// The loopback interface's index: our own routes lead there.
const LO: &str = "lo";

/// What of the host's overlaps, a line each.
pub(super) fn overlaps(kernel: &mut Kernel, ranges: &[IpNetwork]) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    for (link, _) in kernel.links(Side::Host)?.into_iter().filter(|(link, _)| link.as_str() != LO) {
        let addresses = kernel.addresses(Side::Host, &link)?;
        let routes = kernel.routes(Side::Host, &link)?.into_iter().map(|route| route.destination());
        let mut networks: Vec<IpNetwork> = addresses
            .into_iter()
            .chain(routes)
            .filter_map(|network| IpNetwork::new(network.network(), network.prefix()).ok())
            .collect();
        networks.sort_unstable();
        networks.dedup();
        let clashes = ranges.iter().flat_map(|range| networks.iter().map(move |network| (range, network)));
        lines
            .extend(clashes.filter(|(range, network)| do_overlap(**range, **network)).map(|(range, network)| {
            format!(
                "the range {range} of virtual addresses overlaps {network} of {link}: start the agents with \
                     another --service-range"
            )
        }));
    }
    Ok(lines)
}

/// Default routes are everybody's.
fn do_overlap(one: IpNetwork, other: IpNetwork) -> bool {
    other.prefix() > 0 && (one.contains(other.network()) || other.contains(one.network()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_two_networks_that_overlap_has_the_other() {
        let check = |one: &str, other: &str, expected| {
            assert_eq!(do_overlap(one.parse().unwrap(), other.parse().unwrap()), expected, "{one} {other}");
        };
        check("10.213.0.0/16", "10.213.7.0/24", true);
        check("10.213.0.0/16", "10.0.0.0/8", true);
        check("10.213.0.0/16", "10.214.0.0/16", false);
        check("10.213.0.0/16", "0.0.0.0/0", false);
        check("10.213.0.0/16", "fd00::/8", false);
    }
}
