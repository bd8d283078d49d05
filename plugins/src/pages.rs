//! The user pages say of the options what the types say.

macro_rules! pages {
    ($($test:ident: $plugin:literal, $raw:ty;)*) => {
        $(#[test]
        fn $test() {
            zeugma_pages::check::<$raw>($plugin);
        })*
    };
}

pages! {
    bridge: "bridge", crate::bridge::config::Raw;
    portmap: "portmap", crate::portmap::config::Raw;
    firewall: "firewall", crate::firewall::config::Raw;
    tuning: "tuning", crate::tuning::config::Raw;
    sbr: "sbr", crate::sbr::config::Raw;
    vrf: "vrf", crate::vrf::config::Raw;
    resolver: "resolver", crate::resolver::config::Raw;
    overlay: "overlay", crate::overlay::config::Raw;
    ptp: "ptp", crate::ptp::Raw;
    macvlan: "macvlan", crate::macvlan::Raw;
    ipvlan: "ipvlan", crate::ipvlan::Raw;
    vlan: "vlan", crate::vlan::Raw;
    bandwidth: "bandwidth", crate::bandwidth::config::Raw;
    tap: "tap", crate::tap::Raw;
    host_device: "host-device", crate::host_device::config::Raw;
}
