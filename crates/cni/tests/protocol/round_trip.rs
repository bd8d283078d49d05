//! Whatever a result holds, every version since 0.3.0 gives back what it can say.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use zeugma_model::Mac;
use zeugma_protocol::{CniResult, Dns, Interface, Ip, Route, Version, fuzz_netconf, fuzz_result};

fn prefix() -> impl Strategy<Value = IpNetwork> {
    (any::<IpAddr>(), 0u8..=128).prop_map(|(address, length)| {
        let length = if address.is_ipv4() { length % 33 } else { length };
        IpNetwork::new(address, length).unwrap()
    })
}

fn interface() -> impl Strategy<Value = Interface> {
    let text = || of("[a-z0-9/:.]{1,12}");
    ("[a-z0-9]{1,15}", of(any::<[u8; 6]>()), of(any::<u32>()), text(), text(), text()).prop_map(
        |(name, mac, mtu, sandbox, socket_path, pci_id)| Interface {
            name,
            mac: mac.map(Mac),
            mtu,
            sandbox,
            socket_path,
            pci_id,
        },
    )
}

fn ip() -> impl Strategy<Value = Ip> {
    (prefix(), of(any::<IpAddr>()), of(0usize..4)).prop_map(|(address, gateway, interface)| Ip {
        address,
        gateway,
        interface,
    })
}

fn route() -> impl Strategy<Value = Route> {
    let number = || of(any::<u32>());
    (prefix(), of(any::<IpAddr>()), number(), number(), number(), number(), of(any::<u8>())).prop_map(
        |(dst, gw, mtu, advmss, priority, table, scope)| Route {
            dst,
            gw,
            mtu,
            advmss,
            priority,
            table,
            scope,
        },
    )
}

fn dns() -> impl Strategy<Value = Dns> {
    let texts = || vec("[a-z0-9.]{1,9}", 0..3);
    (texts(), of("[a-z]{1,9}"), texts(), texts()).prop_map(|(nameservers, domain, search, options)| Dns {
        nameservers,
        domain,
        search,
        options,
    })
}

fn result() -> impl Strategy<Value = CniResult> {
    (vec(interface(), 0..4), vec(ip(), 0..4), vec(route(), 0..4), dns())
        .prop_map(|(interfaces, ips, routes, dns)| CniResult { interfaces, ips, routes, dns })
}

/// `result` without the words of 1.1.0.
fn reduced(mut result: CniResult) -> CniResult {
    for link in &mut result.interfaces {
        (link.mtu, link.socket_path, link.pci_id) = (None, None, None);
    }
    for route in &mut result.routes {
        *route = Route { mtu: None, advmss: None, priority: None, table: None, scope: None, ..*route };
    }
    result
}

proptest! {
    #[test]
    fn results_round_trip_since_0_3_0(result in result()) {
        for version in Version::since(Version::V0_3_0) {
            let written = result.to_json(*version).unwrap();
            let read = CniResult::from_json(&written, Version::V0_1_0).unwrap();
            let expected = if *version < Version::V1_1_0 { reduced(result.clone()) } else { result.clone() };
            prop_assert_eq!(&read, &expected, "{}", version);
        }
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in vec(any::<u8>(), 0..200)) {
        fuzz_netconf(&bytes);
        fuzz_result(&bytes);
    }

    #[test]
    fn no_damaged_result_makes_the_parsers_panic(result in result(), at in any::<usize>(), byte in any::<u8>()) {
        let mut bytes = result.to_json(Version::V1_1_0).unwrap().to_string().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        fuzz_result(&bytes);
        let config = [br#"{"name":"n","prevResult":"#, bytes.as_slice(), b"}"].concat();
        fuzz_netconf(&config);
    }
}
