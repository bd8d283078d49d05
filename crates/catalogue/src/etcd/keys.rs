//! How keys are called in etcd: the prefix, the kind's word, a slash, the name. Pure.

use crate::{Key, Kind};

/// Keys of one catalogue.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: String,
}

/// All keys from the first, included, to the second, excluded.
pub(super) type Range = (Vec<u8>, Vec<u8>);

impl Keys {
    pub(super) fn new(prefix: &str) -> Keys {
        Keys { prefix: prefix.to_owned() }
    }

    /// `/zeugma/services/web`
    pub(super) fn encode(&self, key: &Key) -> Vec<u8> {
        format!("{}{key}", self.prefix).into_bytes()
    }

    /// `None` for a kind that only a later zeugma knows, and for what others put there.
    pub(super) fn decode(&self, bytes: &[u8]) -> Option<Key> {
        let (kind, name) = std::str::from_utf8(bytes).ok()?.strip_prefix(&self.prefix)?.split_once('/')?;
        Key::new(Kind::parse(kind)?, name).ok()
    }

    /// The names of `kind` that begin with `prefix`.
    pub(super) fn named(&self, kind: Kind, prefix: &str) -> Range {
        beginning_with(format!("{}{kind}/{prefix}", self.prefix))
    }

    /// What has to be watched for these kinds: a watch of several has to be one, or their order is lost.
    pub(super) fn covering(&self, kinds: &[Kind]) -> Range {
        match kinds {
            [kind] => self.named(*kind, ""),
            _ => beginning_with(self.prefix.clone()),
        }
    }
}

fn beginning_with(prefix: String) -> Range {
    let mut end = prefix.clone().into_bytes();
    // The text is UTF-8 and never empty: its last byte has a successor.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    (prefix.into_bytes(), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let keys = Keys::new("/zeugma/");
        let key = Key::new(Kind::Endpoint, "web/10.88.0.2:80").unwrap();
        assert_eq!(keys.encode(&key), b"/zeugma/endpoints/web/10.88.0.2:80");
        assert_eq!(keys.decode(&keys.encode(&key)), Some(key));
        for foreign in ["/other/nodes/a", "/zeugma/policies/a", "/zeugma/nodes", "/zeugma/nodes/"] {
            assert_eq!(keys.decode(foreign.as_bytes()), None, "{foreign}");
        }
    }

    #[test]
    fn a_range_is_what_begins_with_its_prefix() {
        let keys = Keys::new("/z/");
        assert_eq!(keys.named(Kind::Node, "a"), (b"/z/nodes/a".to_vec(), b"/z/nodes/b".to_vec()));
        assert_eq!(keys.covering(&[Kind::Node]), (b"/z/nodes/".to_vec(), b"/z/nodes0".to_vec()));
        assert_eq!(keys.covering(&Kind::ALL), (b"/z/".to_vec(), b"/z0".to_vec()));
    }
}
