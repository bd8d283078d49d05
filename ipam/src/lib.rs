//! IP address management: which address a container gets, and who has it.
//!
//! `alloc` decides (pure), `store` remembers (files), `host_local` and `static_` are the two CNI plugins on
//! top; `dhcp` is the third and asks its daemon. Nothing here configures an interface: that is the calling plugin's work.

mod alloc;
pub mod dhcp;
mod host_local;
#[cfg(test)]
mod pages;
mod static_;
mod store;
mod wire;

#[cfg(test)]
mod testing;

use zeugma_protocol::NetConf;

pub use alloc::RangeError;
pub use dhcp::{Dhcp, Error as DhcpError};
pub use host_local::{Error as HostLocalError, HostLocal};
pub use static_::{Error as StaticError, Static};
pub use store::StoreError;
pub use wire::ValueError;

/// Fuzz entry: any bytes as what stands in the lease directory and its index. What is read must survive being
/// written again.
pub fn fuzz_lease(bytes: &[u8]) {
    store::fuzz_lease(bytes);
}

/// Fuzz entry: any bytes as a resolv.conf.
pub fn fuzz_resolv_conf(bytes: &[u8]) {
    let _ = host_local::parse_resolv_conf(&String::from_utf8_lossy(bytes));
}

/// Fuzz entry: any configuration for `host-local` and `static`, and the first addresses out of its ranges.
pub fn fuzz_ipam(bytes: &[u8]) {
    if let Ok(conf) = NetConf::parse(bytes) {
        host_local::fuzz_ipam(&conf);
        static_::fuzz_ipam(&conf);
        if let Some(ipam) = &conf.ipam {
            dhcp::fuzz_ipam(ipam);
        }
    }
}
