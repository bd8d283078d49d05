//! Netlink attributes written straight into the datagram. netlink-packet-netfilter builds a tree of vectors for the
//! same, which is fine for a few elements and half of the time for a hundred thousand.

use super::uapi::NESTED;

/// `NLA_HDRLEN`.
const HEADER: usize = 4;

/// Appends attributes.
pub(super) struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes }
    }

    /// Bytes so far, of the whole datagram.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// An attribute whose value `write` appends; it must not have 64 KiB or more.
    pub(super) fn with(&mut self, kind: u16, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend([0; HEADER]);
        write(self.bytes);
        let length = u16::try_from(self.bytes.len() - start).expect("callers keep attributes below 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 2..start + HEADER].copy_from_slice(&kind.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    pub(super) fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Writer<'_>)) {
        self.with(kind | NESTED, |bytes| write(&mut Writer { bytes }));
    }

    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.with(kind, |bytes| bytes.extend(value));
    }

    /// Attributes as they came from the kernel.
    pub(super) fn raw(&mut self, attributes: &[u8]) {
        self.bytes.extend(attributes);
    }

    /// nf_tables' numbers are big endian.
    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// With its NUL.
    pub(super) fn text(&mut self, kind: u16, text: &str) {
        self.with(kind, |bytes| {
            bytes.extend(text.as_bytes());
            bytes.push(0);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_lengths_are_not() {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes).nest(3, |nest| nest.text(1, "a"));
        assert_eq!(bytes, [12, 0, 3, 0x80, 6, 0, 1, 0, b'a', 0, 0, 0]);
    }
}
