//! What a value in the catalogue is called: its kind and its name. Not what the value is: that is the typed layer's.

use std::fmt;

use crate::Error;

/// What the catalogue is divided into. Each kind has values of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Networks that containers are attached to, each of a machine.
    Network,
    /// Services: a name, virtual addresses, ports.
    Service,
    /// Endpoints of services, one value each.
    Endpoint,
    /// Machines.
    Node,
    /// Address blocks of networks: who took the last.
    Block,
    /// Virtual addresses, each taken by a service.
    Vip,
    /// Address blocks of overlays, each taken by a node.
    NodeBlock,
    /// Nodes that live, each under a lease.
    Alive,
    /// Which catalogue it is.
    Identity,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 9] = [
        Kind::Network,
        Kind::Service,
        Kind::Endpoint,
        Kind::Node,
        Kind::Block,
        Kind::Vip,
        Kind::NodeBlock,
        Kind::Alive,
        Kind::Identity,
    ];

    /// The word in stored keys; it never changes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Network => "networks",
            Kind::Service => "services",
            Kind::Endpoint => "endpoints",
            Kind::Node => "nodes",
            Kind::Block => "blocks",
            Kind::Vip => "vips",
            Kind::NodeBlock => "node-blocks",
            Kind::Alive => "alive",
            Kind::Identity => "identity",
        }
    }

    /// The kind of that word; `None` for a kind that only a later zeugma knows.
    pub(crate) fn parse(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A kind and a name: `services/web`. The name may have parts of its own, as in `endpoints/web/10.88.0.2:80`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    kind: Kind,
    name: String,
}

impl Key {
    /// The longest name, in bytes.
    pub const NAME_LIMIT: usize = 512;

    /// # Errors
    /// [`Error::Name`] when the name is empty, longer than [`Key::NAME_LIMIT`], or has whitespace or control
    /// characters.
    pub fn new(kind: Kind, name: impl Into<String>) -> Result<Key, Error> {
        let name = name.into();
        let odd = |c: char| c.is_whitespace() || c.is_control();
        if name.is_empty() || name.len() > Key::NAME_LIMIT || name.contains(odd) {
            return Err(Error::Name { kind, name });
        }
        Ok(Key { kind, name })
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its name within the kind.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word_of_bounded_length() {
        for odd in ["", "two words", "line\nbreak", "nul\0", &"x".repeat(513)] {
            assert!(matches!(Key::new(Kind::Service, odd), Err(Error::Name { .. })), "{odd:?}");
        }
        assert_eq!(
            Key::new(Kind::Endpoint, "web/[fd00::1]:80").unwrap().to_string(),
            "endpoints/web/[fd00::1]:80"
        );
    }

    #[test]
    fn kinds_are_told_apart_by_their_words() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::parse("policies"), None);
    }
}
