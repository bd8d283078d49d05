//! DNS messages as far as the server itself reads and writes them: one question in, a reply of plain records out.
//! Both without allocating. Messages of upstream servers are hickory-proto's matter (`forward`).

mod name;
mod question;
mod reply;

pub use name::{LowerName, labels, wire_name};
pub(crate) use name::{above, parent};
pub use question::{Edns, Malformed, Question};
pub use reply::{Full, Reply};
pub(crate) use reply::{bare, pointer};

/// The header of a message: RFC 1035, section 4.1.1.
pub const HEADER_BYTES: usize = 12;
/// The longest name on the wire, its final zero byte included: RFC 1035, section 2.3.4.
pub const NAME_BYTES: usize = 255;
/// The largest datagram that is sent: RFC 9715 says that it passes nearly everywhere unfragmented.
pub const DATAGRAM_BYTES: usize = 1232;
/// The largest datagram for who says nothing about it: RFC 1035, section 2.3.4.
pub const PLAIN_DATAGRAM_BYTES: usize = 512;

/// Record types: the IANA registry "Resource Record (RR) TYPEs".
pub mod kind {
    #![allow(missing_docs, reason = "they are the registry's mnemonics")]
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const HINFO: u16 = 13;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const OPT: u16 = 41;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const ANY: u16 = 255;
    /// From here to [`ANY`] are questions that are no types of records, and records of transactions (RFC 6895, 3.1).
    pub const FIRST_META: u16 = 128;
}

/// Response codes: the IANA registry "DNS RCODEs".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Code {
    /// There is an answer, or the name has no record of that type.
    NoError = 0,
    /// The question cannot be read.
    FormErr = 1,
    /// Whoever could answer did not.
    ServFail = 2,
    /// There is no such name.
    NxDomain = 3,
    /// Not that kind of request.
    NotImp = 4,
    /// Not for who asks.
    Refused = 5,
    /// An EDNS version other than 0 (RFC 6891, 9).
    BadVers = 16,
}

impl Code {
    /// Every code that the server answers with.
    pub const ALL: [Self; 7] = [
        Self::NoError,
        Self::FormErr,
        Self::ServFail,
        Self::NxDomain,
        Self::NotImp,
        Self::Refused,
        Self::BadVers,
    ];

    /// Its mnemonic.
    pub fn mnemonic(self) -> &'static str {
        match self {
            Self::NoError => "NOERROR",
            Self::FormErr => "FORMERR",
            Self::ServFail => "SERVFAIL",
            Self::NxDomain => "NXDOMAIN",
            Self::NotImp => "NOTIMP",
            Self::Refused => "REFUSED",
            Self::BadVers => "BADVERS",
        }
    }
}
