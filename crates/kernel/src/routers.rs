//! Routers that advertise themselves (RFC 4861, 6.3.4), when this host becomes a router itself. With forwarding on, the
//! kernel listens to them where `accept_ra` is 2 and nowhere else, and forgets those that it knew: a host that has its
//! default route from one would be cut off (Documentation/networking/ip-sysctl.rst, `accept_ra`).

use std::collections::BTreeSet;
use std::fs;

use zeugma_model::IfName;
use zeugma_plan::Sysctl;

use crate::{Error, sysctl};

/// The switch for forwarding IPv6.
const FORWARDING: &str = "net/ipv6/conf/all/forwarding";
/// `RTF_DEFAULT`, `RTF_ADDRCONF` (include/uapi/linux/ipv6_route.h).
const ADVERTISED: u32 = 0x0001_0000 | 0x0004_0000;
/// `IFA_F_PERMANENT` (include/uapi/linux/if_addr.h): not for as long as somebody said.
const PERMANENT: u32 = 0x80;

/// Before `sysctl` is set in this thread's namespace: if it switches on what makes the kernel forget routers, they are kept.
/// Links that no router was heard on stay as they are: a container could be one.
pub(crate) fn keep(sysctl: &Sysctl) -> Result<(), Error> {
    if sysctl.path != FORWARDING
        || sysctl.value == "0"
        || sysctl::read(FORWARDING)?.is_none_or(|now| now != "0")
    {
        return Ok(());
    }
    // /proc/net is the namespace of the process's first thread.
    let listed = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    for link in advertised(&listed("ipv6_route"), &listed("if_inet6")) {
        hear(&link)?;
    }
    Ok(())
}

/// Routers on `link` are heard although this host forwards, unless somebody does not want to hear them at all. On a link
/// to containers that would let one of them become this host's router.
pub(crate) fn hear(link: &IfName) -> Result<(), Error> {
    let path = format!("net/ipv6/conf/{link}/accept_ra");
    if sysctl::read(&path)?.is_some_and(|now| now == "1") {
        sysctl::set(&Sysctl { path, value: "2".into(), optional: true })?;
    }
    Ok(())
}

/// Links with a default route or an address that a router advertised, as ipv6_route and if_inet6 of proc(5) tell.
fn advertised(routes: &str, addresses: &str) -> BTreeSet<IfName> {
    let flags = |text: &str| u32::from_str_radix(text, 16).unwrap_or_default();
    let by_route = routes.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, "00", .., its, link] = words[..] else { return None };
        (flags(its) & ADVERTISED != 0).then_some(link)
    });
    let by_address = addresses.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, _, _, "00", its, link] = words[..] else { return None };
        (flags(its) & PERMANENT == 0).then_some(link)
    });
    by_route.chain(by_address).filter_map(|link| link.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_a_router_was_heard_on_are_found() {
        let routes = "\
20010db8000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00400001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000003 00000000 00000003     eth1
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
";
        let addresses = "\
20010db8000000000000000000000007 02 40 00 80     eth1
20010db800000000020000fffe000001 05 40 00 00     eth2
fe800000000000000000000000000007 04 40 20 80     eth3
00000000000000000000000000000001 01 80 10 80       lo
";
        let found: Vec<String> = advertised(routes, addresses).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["eth0", "eth2"]);
        assert!(advertised("", "").is_empty() && advertised("x\n1 00", "1 2 3 00 zz\n").is_empty());
    }
}
