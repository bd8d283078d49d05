//! Which addresses of overlays containers of this host have, as the journal says. A list may have another name than the
//! overlay that its containers are on.

use ipnetwork::IpNetwork;
use zeugma_journal::{Error, Journal, OnOverlays};
use zeugma_model::NetworkName;

/// The journal, asked about overlays.
#[derive(Debug, Clone, Default)]
pub(super) struct Held(pub(super) Journal);

/// What it said of all of them at once, as every attachment of the host is looked at for it; none: it could not tell.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    journal: &'a Journal,
    all: Option<OnOverlays>,
}

impl Held {
    /// All as it is now.
    pub(super) fn seen(&self) -> Seen<'_> {
        Seen { journal: &self.0, all: self.0.on_overlays().ok() }
    }

    /// Whether a network has containers. When that cannot be told: yes.
    pub(super) fn has_containers(&self, network: &NetworkName) -> bool {
        self.0.attached_to(network).map_or(true, |all| !all.is_empty())
    }
}

impl Seen<'_> {
    /// How many containers are on a network. When that cannot be told: none, so that nothing is taken for them.
    pub(super) fn containers(&self, network: &NetworkName) -> usize {
        self.all.as_ref().and_then(|all| all.get(network)).map_or(0, |ids| ids.len())
    }

    /// Whether a container has an address of a block. When that cannot be told: yes, so that nothing is taken away.
    pub(super) fn is_used(&self, network: &NetworkName, block: IpNetwork) -> bool {
        let used = self.all.as_ref().map(|all| self.has_address_of(all, network, block));
        used.is_none_or(|used| used.unwrap_or(true))
    }

    fn has_address_of(
        &self,
        all: &OnOverlays,
        network: &NetworkName,
        block: IpNetwork,
    ) -> Result<bool, Error> {
        for id in all.get(network).into_iter().flatten() {
            let mut entries = self.journal.entries(id)?.into_iter();
            if entries.any(|entry| entry.record.addresses.iter().any(|address| block.contains(address.ip())))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zeugma_journal::Record;
    use zeugma_model::AttachmentId;

    use super::*;

    #[test]
    fn a_container_of_a_list_of_another_name_is_on_the_overlay() {
        let root = tempfile::tempdir().unwrap();
        let held = Held(Journal::at(root.path()));
        let [front, list] = ["front", "mylist"].map(|name| name.parse::<NetworkName>().unwrap());
        let state = json!({"network": "front", "backend": "vxlan", "subnets": ["10.90.0.0/16"],
            "blocks": ["10.90.1.0/24"], "mtu": 1450, "bridge": "br-front", "tunnel": "vx-front", "masquerade": true});
        let record = Record {
            plugin: "overlay".into(),
            overlay: serde_json::from_value(state).unwrap(),
            addresses: vec!["10.90.1.2/24".parse().unwrap()],
            ..Record::default()
        };
        let id =
            AttachmentId { network: list, container: "c".parse().unwrap(), ifname: "eth0".parse().unwrap() };
        let (block, other) = ("10.90.1.0/24".parse().unwrap(), "10.90.2.0/24".parse().unwrap());
        assert!(!held.has_containers(&front) && !held.seen().is_used(&front, block));
        held.0.begin(&id, record).unwrap();
        let seen = held.seen();
        assert_eq!((seen.containers(&front), held.has_containers(&front)), (1, true));
        assert_eq!((seen.is_used(&front, block), seen.is_used(&front, other)), (true, false));
    }
}
