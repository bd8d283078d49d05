//! Names that come from outside: what the CNI specification and the kernel allow in them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A container ID that no file's name has room for.
    #[error("containerID is too long: it has {0} characters, at most 200 are served")]
    ContainerIdLong(usize),
    /// A container ID outside of `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
    #[error(
        "invalid characters in containerID {0:?}: it starts with a letter or digit, then letters, digits, `_`, `.`, `-`"
    )]
    ContainerId(String),
    /// A network name outside of `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
    #[error(
        "invalid characters found in network name {0:?}: it starts with a letter or digit, then letters, digits, `_`, `.`, `-`"
    )]
    NetworkName(String),
    /// The network has no name.
    #[error("missing network name: set \"name\" in the network configuration")]
    NoNetworkName,
    /// A service name outside of `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, or longer than a comment in the ruleset.
    #[error(
        "{0:?} is no service name: it has at most 127 letters, digits, `_`, `.`, `-`, the first a letter or digit"
    )]
    ServiceName(String),
    /// A node name outside of `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, or longer than a host's name.
    #[error(
        "{0:?} is no node name: it has at most 253 letters, digits, `_`, `.`, `-`, the first a letter or digit"
    )]
    NodeName(String),
    /// An empty interface name.
    #[error("interface name is empty")]
    IfNameEmpty,
    /// More than the 15 bytes that the kernel keeps (`IFNAMSIZ` less the NUL).
    #[error("interface name is too long: {0:?} has more than 15 bytes")]
    IfNameLong(String),
    /// `.` and `..` are directories under /sys/class/net.
    #[error("interface name is . or ..")]
    IfNameDots,
    /// The kernel refuses these in `dev_valid_name`; of a name with `%` it makes others (`br%d` → `br0`).
    #[error("interface name contains / or : or whitespace characters, or %: {0:?}")]
    IfNameCharacters(String),
}

/// Letters, digits, `_`, `.` and `-`, the first a letter or digit: the rule of the CNI specification.
fn is_cni_identifier(text: &str) -> bool {
    let mut characters = text.bytes();
    characters.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && characters.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

text_type! {
    /// The runtime's name of a container (`CNI_CONTAINERID`).
    ContainerId
}
text_type! {
    /// A network's name: `name` in its configuration.
    NetworkName
}
text_type! {
    /// A service's name, at most 127 bytes.
    ServiceName
}
text_type! {
    /// A node's name, at most 253 bytes.
    NodeName
}
text_type! {
    /// A network interface's name, at most 15 bytes.
    IfName
}

impl FromStr for ContainerId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        /// A file's name has 255 bytes; the index of leases puts the interface's name behind it.
        const LONGEST: usize = 200;
        match text {
            _ if !is_cni_identifier(text) => Err(NameError::ContainerId(text.into())),
            _ if text.len() > LONGEST => Err(NameError::ContainerIdLong(text.len())),
            _ => Ok(Self(text.into())),
        }
    }
}

impl FromStr for NetworkName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "" => Err(NameError::NoNetworkName),
            _ if is_cni_identifier(text) => Ok(Self(text.into())),
            _ => Err(NameError::NetworkName(text.into())),
        }
    }
}

impl NetworkName {
    /// The bridge of a network that names none: `br-NAME` where that fits an interface's name, else `br-` and 12 hex
    /// digits of the name's SHA-256.
    pub fn bridge(&self) -> IfName {
        self.link("br")
    }

    /// The VXLAN device of an overlay: `vx-NAME`, or hashed as [`NetworkName::bridge`].
    pub fn vxlan(&self) -> IfName {
        self.link("vx")
    }

    /// The WireGuard device of an overlay: `wg-NAME`, or hashed as [`NetworkName::bridge`].
    pub fn wireguard(&self) -> IfName {
        self.link("wg")
    }

    fn link(&self, kind: &str) -> IfName {
        let hashed = || {
            let digest: [u8; 32] = Sha256::digest(self.0.as_bytes()).into();
            let digits: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
            format!("{kind}-{digits}")
                .parse()
                .expect("two letters, a dash and 12 hex digits are an interface name")
        };
        format!("{kind}-{}", self.0).parse().unwrap_or_else(|_| hashed())
    }
}

impl FromStr for ServiceName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let good = is_cni_identifier(text) && text.len() <= 127;
        good.then(|| Self(text.into())).ok_or_else(|| NameError::ServiceName(text.into()))
    }
}

impl FromStr for NodeName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let good = is_cni_identifier(text) && text.len() <= 253;
        good.then(|| Self(text.into())).ok_or_else(|| NameError::NodeName(text.into()))
    }
}

impl FromStr for IfName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "" => Err(NameError::IfNameEmpty),
            "." | ".." => Err(NameError::IfNameDots),
            _ if text.len() > 15 => Err(NameError::IfNameLong(text.into())),
            _ if text
                .contains(|c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c == '\0') =>
            {
                Err(NameError::IfNameCharacters(text.into()))
            }
            _ => Ok(Self(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_follow_the_specification() {
        for good in ["a", "0abc", "a_b.c-d", "A9"] {
            assert!(good.parse::<ContainerId>().is_ok(), "{good}");
            assert!(good.parse::<NetworkName>().is_ok(), "{good}");
        }
        for bad in ["-a", ".a", "a/b", "a b", "ä", "a\n"] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad:?}");
            assert!(bad.parse::<NetworkName>().is_err(), "{bad:?}");
        }
        assert_eq!("".parse::<NetworkName>(), Err(NameError::NoNetworkName));
        assert!(
            "a".repeat(127).parse::<ServiceName>().is_ok() && "a".repeat(253).parse::<NodeName>().is_ok()
        );
        assert!(
            "a".repeat(128).parse::<ServiceName>().is_err() && "a".repeat(254).parse::<NodeName>().is_err()
        );
    }

    #[test]
    fn a_network_s_bridge_fits_the_kernel_and_is_its_own() {
        let bridge = |text: &str| text.parse::<NetworkName>().unwrap().bridge();
        assert_eq!(bridge("front").as_str(), "br-front");
        // printf %s shop_frontend | sha256sum | cut -c-12
        assert_eq!(bridge("shop_frontend").as_str(), "br-28a187734491");
        assert_ne!(bridge("shop_frontend"), bridge("shop_frontends"));
    }

    #[test]
    fn interface_names_are_what_the_kernel_takes() {
        assert!("eth0".parse::<IfName>().is_ok());
        assert!("123456789012345".parse::<IfName>().is_ok());
        for bad in ["", ".", "..", "1234567890123456", "a/b", "a:b", "a b", "a\tb", "br%d"] {
            assert!(bad.parse::<IfName>().is_err(), "{bad:?}");
        }
    }
}
