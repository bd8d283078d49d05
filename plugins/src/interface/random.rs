//! Randomness for plans: they are given it, as they have none.

use zeugma_model::Mac;

use crate::cause::Cause;

/// Fresh Ethernet addresses.
pub(crate) fn random_macs<const COUNT: usize>() -> Result<[Mac; COUNT], Cause> {
    let mut macs = [[0; 6]; COUNT];
    getrandom::fill(macs.as_flattened_mut()).map_err(|error| zeugma_kernel::Error::System {
        action: "get random bytes for MAC addresses",
        source: std::io::Error::other(error),
    })?;
    Ok(macs.map(Mac::local))
}
