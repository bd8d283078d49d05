//! Names in the form they have on the wire: each label behind its length, no compression.

use super::NAME_BYTES;

/// A name in lower case on the wire, the final zero byte left out; `web.zeugma` is `\x03web\x06zeugma`.
///
/// It is where questions are compared, so it lives on the stack.
#[derive(Clone)]
pub struct LowerName {
    bytes: [u8; NAME_BYTES],
    length: u8,
}

impl LowerName {
    /// Out of the name's bytes as they are on the wire, without the final zero; at most 254.
    ///
    /// Lengths of labels are below 64 and no letters, so that all bytes can be treated alike.
    pub(crate) fn of_wire(name: &[u8]) -> Self {
        let mut lower = Self { bytes: [0; NAME_BYTES], length: 0 };
        let length = name.len().min(NAME_BYTES - 1);
        lower.bytes[..length].copy_from_slice(&name[..length]);
        lower.bytes[..length].make_ascii_lowercase();
        lower.length = u8::try_from(length).unwrap_or(u8::MAX);
        lower
    }

    /// The labels with their lengths.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length.into()]
    }
}

/// A name as text in the form of a [`LowerName`]'s bytes; none when it has no place on the wire. A final dot is let
/// be. Any characters are taken.
pub fn wire_name(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let mut wire = Vec::with_capacity(text.len() + 1);
    for label in text.split('.').filter(|_| !text.is_empty()) {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        wire.push(length);
        wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    (wire.len() < NAME_BYTES).then_some(wire)
}

/// The labels of a name on the wire, the first one first.
pub fn labels(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = name;
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first()?;
        let (label, after) = behind.split_at_checked(usize::from(*length))?;
        rest = after;
        Some(label)
    })
}

/// What is left of `name` above `suffix`, when it ends in it at the border of a label.
pub(crate) fn above<'a>(name: &'a [u8], suffix: &[u8]) -> Option<&'a [u8]> {
    let rest = name.strip_suffix(suffix)?;
    // The bytes alone may match in the middle of a label.
    let mut at = 0;
    while at < rest.len() {
        at += usize::from(rest[at]) + 1;
    }
    (at == rest.len()).then_some(rest)
}

/// `name` without its first label; none at the root.
pub(crate) fn parent(name: &[u8]) -> Option<&[u8]> {
    name.get(usize::from(*name.first()?) + 1..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_at_labels_only() {
        let name = wire_name("a.Web.zeugma.internal.").unwrap();
        let above = |suffix: &str| above(&name, &wire_name(suffix).unwrap()).map(<[u8]>::to_vec);
        assert_eq!(above("zeugma.internal"), wire_name("a.web"));
        assert_eq!(above("internal"), wire_name("a.web.zeugma"));
        assert_eq!(above("nal"), None);
        assert_eq!(above("a.web.zeugma.internal"), Some(Vec::new()));
    }

    #[test]
    fn a_suffix_inside_of_a_label_is_none() {
        // The last bytes of the label \x05a\x03web are those of `web`, with its length.
        assert_eq!(super::above(b"\x05a\x03web", b"\x03web"), None);
    }

    #[test]
    fn names_without_place_on_the_wire_are_none() {
        assert!(wire_name(&"a".repeat(64)).is_none());
        assert!(wire_name("a..b").is_none());
        assert!(wire_name(&["a"; 128].join(".")).is_none());
        assert_eq!(wire_name("."), Some(Vec::new()));
    }
}
