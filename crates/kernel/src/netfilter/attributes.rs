//! Netlink attributes (`struct nlattr`) as nfnetlink answers nest them. Every length is checked: the decoder of
//! netlink-packet-netfilter 0.4 panics at a wrong one inside of set elements.

/// `NLA_TYPE_MASK`: the kind without the flags for nesting and byte order.
const KIND: u16 = 0x3fff;
/// `NLA_HDRLEN`.
const HEADER: usize = 4;

/// An attribute ends outside of what holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an attribute of kind {kind} is cut short")]
pub(super) struct Cut {
    kind: u16,
}

/// The attributes in `bytes`: kinds and values. What is too short for a header ends them.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Cut>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..HEADER)?.try_into().ok()?) & KIND;
        let Some(value) = rest.get(HEADER..length) else {
            rest = &[];
            return Some(Err(Cut { kind }));
        };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Ok((kind, value)))
    })
}

/// The value of the first attribute of a kind.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).filter_map(Result::ok).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_until_they_are_cut_short() {
        let bytes = [5, 0, 1, 0x80, 7, 0, 0, 0, 8, 0, 2, 0, 1, 2, 3, 4, 9, 0, 3, 0, 1];
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read, [Ok((1, &[7][..])), Ok((2, &[1, 2, 3, 4])), Err(Cut { kind: 3 })]);
        assert_eq!((attribute(&bytes, 2), attribute(&bytes, 3)), (Some(&[1, 2, 3, 4][..]), None));
        assert_eq!(attributes(&[3, 0, 1, 0]).collect::<Vec<_>>(), [Err(Cut { kind: 1 })]);
        assert_eq!(attributes(&[0; 3]).count(), 0);
    }
}
