//! Which addresses of overlays containers of this host have, as the journal says.

use ipnetwork::IpNetwork;
use zeugma_journal::{Error, Journal};
use zeugma_model::NetworkName;

/// The journal, asked about overlays.
#[derive(Debug, Clone, Default)]
pub(super) struct Held(Journal);

impl Held {
    /// How many containers are on a network. When that cannot be told: none, so that nothing is taken for them.
    pub(super) fn containers(&self, network: &NetworkName) -> usize {
        self.0.attachments(network).map_or(0, |all| all.len())
    }

    /// Whether a container has an address of a block. When that cannot be told: yes, so that nothing is taken away.
    pub(super) fn is_used(&self, network: &NetworkName, block: IpNetwork) -> bool {
        self.has_address_of(network, block).unwrap_or(true)
    }

    /// Whether a network has containers. When that cannot be told: yes.
    pub(super) fn has_containers(&self, network: &NetworkName) -> bool {
        self.0.attachments(network).map_or(true, |all| !all.is_empty())
    }

    fn has_address_of(&self, network: &NetworkName, block: IpNetwork) -> Result<bool, Error> {
        for id in self.0.attachments(network)? {
            let mut entries = self.0.entries(&id)?.into_iter();
            if entries.any(|entry| entry.record.addresses.iter().any(|address| block.contains(address.ip())))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
