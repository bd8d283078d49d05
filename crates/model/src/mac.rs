//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A 48-bit Ethernet address; written as six hex bytes with colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// The text is not six hex bytes separated by `:` or `-`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no MAC address: write six hex bytes, such as 02:00:00:00:00:01")]
pub struct MacError(String);

impl Mac {
    /// Six random bytes made into a unicast address of the locally administered range, so that it never
    /// equals a vendor's.
    pub fn local(random: [u8; 6]) -> Self {
        let mut bytes = random;
        bytes[0] = (bytes[0] | 0x02) & 0xfe;
        Self(bytes)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl FromStr for Mac {
    type Err = MacError;
    fn from_str(text: &str) -> Result<Self, MacError> {
        let parts: Vec<&str> = text.split([':', '-']).collect();
        let bytes: Vec<u8> = parts
            .iter()
            .filter(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .filter_map(|part| u8::from_str_radix(part, 16).ok())
            .collect();
        match (parts.len(), <[u8; 6]>::try_from(bytes)) {
            (6, Ok(bytes)) => Ok(Self(bytes)),
            _ => Err(MacError(text.into())),
        }
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;
    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_nonsense_is_refused() {
        assert_eq!("02:00:5E:10:00:ff".parse::<Mac>().unwrap().to_string(), "02:00:5e:10:00:ff");
        for bad in
            ["", "02:00", "02:00:5e:10:00:zz", "2:0:5e:10:0:ff", "02:00:5e:10:00:ff:00", "+2:00:5e:10:00:ff"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn made_addresses_are_local_and_unicast() {
        assert_eq!(Mac::local([0xff; 6]).0[0], 0xfe);
        assert_eq!(Mac::local([0; 6]).0[0], 0x02);
    }
}
