//! Numbers of the kernel's interface that more than one file of this module needs, by the headers' names or what these
//! say. What one file needs alone stands there.

/// `NLA_F_NESTED`.
pub(super) const NESTED: u16 = 0x8000;
/// `enum nft_registers`: the first of the sixteen 32-bit registers.
pub(super) const REGISTER: u32 = 8;
/// Types in a concatenation are numbers of six bits (`TYPE_BITS` of nftables).
pub(super) const TYPE_BITS: u32 = 6;
/// `NF_ACCEPT` and `NF_DROP`.
pub(super) const ACCEPT: u32 = 1;
pub(super) const DROP: u32 = 0;
/// `NFT_MSG_NEWRULE`.
pub(super) const NEW_RULE: u8 = 6;
/// `NFTA_TABLE_USERDATA`.
pub(super) const TABLE_USERDATA: u16 = 6;
/// `NFTNL_UDATA_TABLE_COMMENT` and `NFTNL_UDATA_SET_ELEM_COMMENT` of libnftnl.
pub(super) const UDATA_COMMENT: u8 = 0;
/// `NFTA_LIST_ELEM`.
pub(super) const LIST_ELEMENT: u16 = 1;
/// `NFTA_DATA_VALUE`.
pub(super) const DATA_VALUE: u16 = 1;
/// `enum nft_payload_bases`.
pub(super) const NETWORK: u32 = 1;
pub(super) const TRANSPORT: u32 = 2;
/// `NFT_CT_STATUS`, and `IPS_DST_NAT` in it.
pub(super) const CT_STATUS: u32 = 2;
pub(super) const DST_NAT: u32 = 1 << 5;
/// `NFT_FIB_RESULT_ADDRTYPE`, `NFTA_FIB_F_DADDR` and `RTN_LOCAL`.
pub(super) const FIB_ADDRTYPE: u32 = 3;
pub(super) const FIB_DADDR: u32 = 1 << 1;
pub(super) const RTN_LOCAL: u32 = 2;
/// `NFT_NAT_DNAT`.
pub(super) const DNAT: u32 = 1;
