//! A network as a configuration list: which plugins in which order, and what each is told. What the keys mean is on the
//! plugins' pages (docs/plugins); which option of Docker's becomes which key is on docs/networks.md.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value, json};
use zeugma_model::{BridgeOptions, Driver, IfName, Network, Subnet};

/// The newest version that the runtimes of docs/runtimes.md speak.
pub const CNI_VERSION: &str = "1.0.0";
/// The key of a list that says that it is ours; its value is the network that it was made of. Runtimes skip it.
pub const MARK: &str = "zeugma";
/// The key of a list of ours that says which catalogue, and which node in it, has the network.
pub const ORIGIN: &str = "zeugma-origin";
/// The domain of the names, which `dnsname` would have otherwise.
const DOMAIN: &str = "zeugma.internal";

/// What our executables are called in the plugin directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Naming {
    /// `zeugma-bridge`: `zeugma install` places these in any case.
    #[default]
    Prefixed,
    /// `bridge`: `zeugma install --replace` took the plain names, by which runtimes know what a network is.
    Plain,
}

impl Naming {
    fn of(self, plugin: &str) -> String {
        match (self, plugin) {
            (Self::Prefixed, plugin) => format!("zeugma-{plugin}"),
            // Podman takes aliases where it finds this word, and means by it what we do.
            (Self::Plain, "resolver") => "dnsname".into(),
            (Self::Plain, plugin) => plugin.into(),
        }
    }
}

/// The list. Containers of an internal network, which have no default route, have one to `service_ranges`, where virtual
/// addresses are.
pub fn conflist(network: &Network, naming: Naming, service_ranges: &[IpNetwork]) -> Value {
    let mut plugins = vec![joining(network, naming, service_ranges)];
    let is_routed = matches!(network.driver, Driver::Bridge(_) | Driver::Ptp | Driver::Overlay(_));
    if is_routed && !network.internal {
        plugins.push(json!({"type": naming.of("portmap"), "capabilities": {"portMappings": true}}));
    }
    if is_routed {
        plugins.push(firewall(network, naming));
    }
    if network.dns {
        plugins.push(resolver(network, naming));
    }
    json!({"cniVersion": CNI_VERSION, "name": network.name, "plugins": plugins, MARK: network})
}

/// The network that a list of ours was made of; none for a list of another maker.
pub fn declared(list: &Value) -> Option<Network> {
    serde_json::from_value(list.get(MARK)?.clone()).ok()
}

/// The plugin that makes the interface.
fn joining(network: &Network, naming: Naming, service_ranges: &[IpNetwork]) -> Value {
    let mut keys = match &network.driver {
        Driver::Bridge(options) => bridge(network, options),
        Driver::Ptp => json!({"ipMasq": true}),
        Driver::Macvlan { parent, mode } => on_wire(parent.as_ref(), &mode.to_string()),
        Driver::Ipvlan { parent, mode } => on_wire(parent.as_ref(), &mode.to_string()),
        Driver::Overlay(_) => overlay(network, service_ranges),
    };
    keys["type"] = json!(naming.of(network.driver.as_str()));
    keys["capabilities"] = capabilities(network);
    if network.is_shared() {
        return keys;
    }
    keys["ipam"] = ipam(network, naming, service_ranges);
    if let Some(mtu) = network.mtu {
        keys["mtu"] = json!(mtu);
    }
    keys
}

fn bridge(network: &Network, options: &BridgeOptions) -> Value {
    let mut keys = json!({"bridge": network.bridge(), "ipMasq": options.masquerade && !network.internal});
    keys[if network.internal { "isGateway" } else { "isDefaultGateway" }] = json!(true);
    if let Some(vlan) = options.vlan {
        keys["vlan"] = json!(vlan);
    }
    if options.mac_spoof_check {
        keys["macspoofchk"] = json!(true);
    }
    keys
}

/// All else differs from host to host: the plugin reads what its agent wrote down.
fn overlay(network: &Network, service_ranges: &[IpNetwork]) -> Value {
    let (v4, v6): (Vec<&Subnet>, Vec<&Subnet>) =
        network.subnets.iter().partition(|subnet| subnet.subnet.is_ipv4());
    match routes(network, &[v4, v6], service_ranges) {
        routes if routes.is_empty() => json!({}),
        routes => json!({"routes": routes}),
    }
}

fn on_wire(parent: Option<&IfName>, mode: &str) -> Value {
    let mut keys = json!({"mode": mode});
    if let Some(parent) = parent {
        keys["master"] = json!(parent);
    }
    keys
}

/// Where nobody else writes aliases down, the first plugin does: services find their containers by them.
fn capabilities(network: &Network) -> Value {
    let mut capabilities = json!({"ips": true});
    if matches!(network.driver, Driver::Bridge(_) | Driver::Macvlan { .. } | Driver::Overlay(_)) {
        capabilities["mac"] = json!(true);
    }
    if !network.dns {
        capabilities["aliases"] = json!(true);
    }
    capabilities
}

fn ipam(network: &Network, naming: Naming, service_ranges: &[IpNetwork]) -> Value {
    if network.subnets.is_empty() {
        return json!({"type": naming.of("dhcp")});
    }
    let is_v4 = |subnet: &&Subnet| subnet.subnet.is_ipv4();
    let (v4, v6): (Vec<&Subnet>, Vec<&Subnet>) = network.subnets.iter().partition(is_v4);
    let families: Vec<_> = [v4, v6].into_iter().filter(|family| !family.is_empty()).collect();
    let ranges: Vec<Vec<Value>> =
        families.iter().map(|family| family.iter().map(|subnet| range(subnet)).collect()).collect();
    let mut ipam = json!({"type": naming.of("host-local"), "ranges": ranges});
    let routes = routes(network, &families, service_ranges);
    if !routes.is_empty() {
        ipam["routes"] = json!(routes);
    }
    ipam
}

/// A bridge gives its default routes itself.
fn routes(network: &Network, families: &[Vec<&Subnet>], service_ranges: &[IpNetwork]) -> Vec<Value> {
    let has = |v4: bool| families.iter().flatten().any(|subnet| subnet.subnet.is_ipv4() == v4);
    if network.internal {
        let reached = service_ranges.iter().filter(|range| has(range.is_ipv4()));
        return reached.map(|range| json!({"dst": range})).collect();
    }
    let defaults = [("0.0.0.0/0", has(true)), ("::/0", has(false))];
    let is_bridge = network.bridge().is_some();
    let given = defaults.iter().filter(|(_, has)| *has && !is_bridge);
    given.map(|(dst, _)| json!({"dst": dst})).collect()
}

fn range(subnet: &Subnet) -> Value {
    let mut keys = Map::new();
    keys.insert("subnet".into(), json!(subnet.subnet));
    keys.insert("gateway".into(), json!(subnet.gateway));
    if let Some(range) = subnet.range {
        let (first, last) = (range.network(), last_of(range));
        let is_net = first == subnet.subnet.network();
        let is_broadcast = subnet.subnet.is_ipv4() && last == last_of(subnet.subnet);
        keys.insert("rangeStart".into(), json!(if is_net { moved(first, 1) } else { first }));
        keys.insert("rangeEnd".into(), json!(if is_broadcast { moved(last, -1) } else { last }));
    }
    Value::Object(keys)
}

fn last_of(network: IpNetwork) -> IpAddr {
    match network {
        IpNetwork::V4(v4) => v4.broadcast().into(),
        IpNetwork::V6(v6) => v6.broadcast().into(),
    }
}

fn moved(address: IpAddr, by: i8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).saturating_add_signed(by.into()).into()),
        IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).saturating_add_signed(by.into()).into()),
    }
}

/// Networks are kept apart, as Docker does; without `icc` containers are, too.
fn firewall(network: &Network, naming: Naming) -> Value {
    match network.driver {
        Driver::Bridge(_) | Driver::Overlay(_) => {
            let policy = if network.icc { "same-bridge" } else { "isolated" };
            json!({"type": naming.of("firewall"), "ingressPolicy": policy})
        }
        Driver::Ptp | Driver::Macvlan { .. } | Driver::Ipvlan { .. } => {
            json!({"type": naming.of("firewall")})
        }
    }
}

fn resolver(network: &Network, naming: Naming) -> Value {
    let mut keys = json!({"type": naming.of("resolver"), "capabilities": {"aliases": true, "dns": true}});
    if naming == Naming::Plain {
        keys["domainName"] = json!(DOMAIN);
    }
    if network.internal {
        keys["internal"] = json!(true);
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(network: Value, naming: Naming) -> Value {
        let ranges = ["10.96.0.0/16", "fd00:96::/112"].map(|range| range.parse().unwrap());
        conflist(&serde_json::from_value(network).unwrap(), naming, &ranges)
    }

    fn plugins(network: Value) -> Value {
        list(network, Naming::Prefixed)["plugins"].clone()
    }

    fn with(keys: Value) -> Value {
        let mut network = json!({"name": "front", "subnets": [{"subnet": "10.89.0.0/24"}]});
        network.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        network
    }

    #[test]
    fn the_usual_network_has_a_gateway_ports_its_own_bridge_and_names() {
        let expected = json!([
            {"type": "zeugma-bridge", "bridge": "br-front", "isDefaultGateway": true, "ipMasq": true,
             "capabilities": {"ips": true, "mac": true},
             "ipam": {"type": "zeugma-host-local", "ranges": [[{"subnet": "10.89.0.0/24", "gateway": "10.89.0.1"}]]}},
            {"type": "zeugma-portmap", "capabilities": {"portMappings": true}},
            {"type": "zeugma-firewall", "ingressPolicy": "same-bridge"},
            {"type": "zeugma-resolver", "capabilities": {"aliases": true, "dns": true}},
        ]);
        assert_eq!(plugins(with(json!({}))), expected);
    }

    #[test]
    fn a_list_of_ours_says_what_it_was_made_of() {
        let list = list(with(json!({"labels": {"a": "b"}, "created": 7})), Naming::Plain);
        assert_eq!((&list["cniVersion"], &list["name"]), (&json!("1.0.0"), &json!("front")));
        assert_eq!(declared(&list).unwrap().labels["a"], "b");
        assert_eq!(declared(&json!({"name": "front"})), None);
    }

    #[test]
    fn an_overlay_s_list_is_the_same_on_every_host() {
        let overlay = plugins(with(json!({"driver": "overlay", "subnets": [{"subnet": "10.89.0.0/16"}]})));
        let expected = json!([
            {"type": "zeugma-overlay", "capabilities": {"ips": true, "mac": true}},
            {"type": "zeugma-portmap", "capabilities": {"portMappings": true}},
            {"type": "zeugma-firewall", "ingressPolicy": "same-bridge"},
            {"type": "zeugma-resolver", "capabilities": {"aliases": true, "dns": true}},
        ]);
        assert_eq!(overlay, expected);
        let internal =
            json!({"driver": "overlay", "internal": true, "subnets": [{"subnet": "10.89.0.0/16"}]});
        assert_eq!(plugins(with(internal))[0]["routes"], json!([{"dst": "10.96.0.0/16"}]));
    }

    #[test]
    fn by_plain_names_runtimes_know_what_it_is() {
        let list = list(with(json!({})), Naming::Plain);
        let types: Vec<_> = list["plugins"].as_array().unwrap().iter().map(|one| &one["type"]).collect();
        assert_eq!(types, ["bridge", "portmap", "firewall", "dnsname"]);
        assert_eq!(list["plugins"][0]["ipam"]["type"], "host-local");
        assert_eq!(list["plugins"][3]["domainName"], "zeugma.internal");
    }

    #[test]
    fn an_internal_network_leads_to_services_alone() {
        let plugins = plugins(with(json!({"internal": true})));
        assert_eq!(plugins[0]["ipam"]["routes"], json!([{"dst": "10.96.0.0/16"}]));
        assert_eq!((&plugins[0]["isGateway"], &plugins[0]["ipMasq"]), (&json!(true), &json!(false)));
        assert_eq!(plugins[0].get("isDefaultGateway"), None);
        assert_eq!(plugins[1]["type"], "zeugma-firewall");
        assert_eq!(plugins[2]["internal"], true);
    }

    #[test]
    fn options_become_keys_of_plugins() {
        let plugins = plugins(with(json!({"icc": false, "mtu": 1400, "dns": false, "options": {
            "com.docker.network.bridge.name": "br7", "com.docker.network.bridge.enable_ip_masquerade": "false",
            "vlan": "7", "mac_spoof_check": "true"}})));
        let bridge = &plugins[0];
        assert_eq!((&bridge["bridge"], &bridge["ipMasq"]), (&json!("br7"), &json!(false)));
        assert_eq!((&bridge["vlan"], &bridge["mtu"]), (&json!(7), &json!(1400)));
        assert_eq!(bridge["macspoofchk"], true);
        assert_eq!(bridge["capabilities"]["aliases"], true);
        assert_eq!(plugins[2], json!({"type": "zeugma-firewall", "ingressPolicy": "isolated"}));
        assert_eq!(plugins.as_array().unwrap().len(), 3);
    }

    #[test]
    fn a_range_leaves_out_what_no_host_has() {
        let range =
            |subnet: Value| plugins(with(json!({"subnets": [subnet]})))[0]["ipam"]["ranges"][0][0].clone();
        let low = range(json!({"subnet": "10.1.0.0/24", "range": "10.1.0.0/25"}));
        assert_eq!((&low["rangeStart"], &low["rangeEnd"]), (&json!("10.1.0.1"), &json!("10.1.0.127")));
        let high = range(json!({"subnet": "10.1.0.0/24", "range": "10.1.0.128/25"}));
        assert_eq!((&high["rangeStart"], &high["rangeEnd"]), (&json!("10.1.0.128"), &json!("10.1.0.254")));
        let v6 = range(json!({"subnet": "fd00::/64", "range": "fd00::ff00/120"}));
        assert_eq!((&v6["rangeStart"], &v6["rangeEnd"]), (&json!("fd00::ff00"), &json!("fd00::ffff")));
    }

    #[test]
    fn on_the_wire_of_an_interface_the_lan_routes_and_gives_addresses_unless_told() {
        let lan = plugins(json!({"name": "lan", "driver": "macvlan", "options": {"parent": "eth1"}}));
        assert_eq!(lan[0]["master"], "eth1");
        assert_eq!(lan[0]["ipam"], json!({"type": "zeugma-dhcp"}));
        assert_eq!(lan[1]["type"], "zeugma-resolver");
        let ipvlan = plugins(with(json!({"driver": "ipvlan", "options": {"ipvlan_mode": "l3"}})));
        assert_eq!((&ipvlan[0]["mode"], ipvlan[0].get("master")), (&json!("l3"), None));
        assert_eq!(ipvlan[0]["ipam"]["routes"], json!([{"dst": "0.0.0.0/0"}]));
    }

    #[test]
    fn both_families_get_an_address_each() {
        let subnets =
            json!([{"subnet": "10.1.0.0/24"}, {"subnet": "fd00:1::/64"}, {"subnet": "10.2.0.0/24"}]);
        let ranges = plugins(with(json!({"subnets": subnets})))[0]["ipam"]["ranges"].clone();
        assert_eq!(ranges[0].as_array().map(Vec::len), Some(2));
        assert_eq!(ranges[1][0]["gateway"], "fd00:1::1");
    }
}
