//! Subnets that a new network must not have: what this host routes, and what other networks have.

use ipnetwork::IpNetwork;
use zeugma_kernel::Kernel;
use zeugma_networks::Directory;
use zeugma_plan::Side;

/// All of them, but for those in the catalogue. Blocks.
///
/// # Errors
/// In words: when the kernel or the directory does not say.
pub(crate) fn taken(directory: &Directory) -> Result<Vec<IpNetwork>, String> {
    let lists = directory.lists().map_err(|error| error.to_string())?;
    let named = lists.iter().flat_map(|list| list.subnets()).map(|(subnet, _)| subnet);
    let routed = routed().map_err(|error| error.to_string())?;
    Ok(named.chain(routed).collect())
}

/// A default route leads everywhere and takes nothing.
fn routed() -> Result<Vec<IpNetwork>, zeugma_kernel::Error> {
    let mut kernel = Kernel::resident();
    let mut found: Vec<IpNetwork> = kernel.all_addresses()?.into_iter().map(|(_, address)| address).collect();
    for (name, _) in kernel.links(Side::Host)? {
        found.extend(kernel.routes(Side::Host, &name)?.iter().map(|route| route.destination()));
    }
    found.retain(|network| network.prefix() > 0);
    Ok(found)
}
