//! The user pages say of the options what the types say.

#[test]
fn host_local() {
    zeugma_pages::check::<crate::host_local::config::IpamRaw>("host-local");
}

#[test]
fn static_() {
    zeugma_pages::check::<crate::static_::config::IpamRaw>("static");
}

#[test]
fn dhcp() {
    zeugma_pages::check::<crate::dhcp::config::IpamRaw>("dhcp");
}
