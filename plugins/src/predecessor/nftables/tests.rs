//! Rules of the reference as `nft -j` lists them, and which of them are an attachment's. Nothing is deleted here.

use super::*;

/// As `nft -j -a list table` prints rules of version 1.9.
fn listing(family: NftFamily, table: &str, rules: &[&str]) -> Listing {
    let json = format!(r#"{{"nftables": [{{"metainfo": {{}}}}, {}]}}"#, rules.join(", "));
    Listing::parse(family, table, &json).unwrap()
}

fn port(handle: u32, comment: &str, to: &str) -> String {
    format!(
        r#"{{"rule": {{"family": "ip", "table": "cni_hostport", "chain": "hostports", "handle": {handle},
            "comment": "{comment}", "expr": [
            {{"match": {{"op": "==", "left": {{"payload": {{"protocol": "tcp", "field": "dport"}}}}, "right": 8080}}}},
            {{"dnat": {{"addr": "{to}", "port": 80}}}}]}}}}"#
    )
}

fn trace(addresses: &[&str]) -> Trace {
    Trace {
        network: "mynet".into(),
        container: "c1".into(),
        ifname: Some("eth0".into()),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        parts: vec![Part::Ports, Part::Masquerade, Part::MacGuard],
    }
}

#[test]
fn ports_go_by_container_and_address() {
    let rules = [port(5, "c1", "10.88.0.2"), port(6, "c1", "10.99.0.2"), port(7, "c10", "10.88.0.2")];
    let table = listing(NftFamily::Ip, NFT_PORTS, &rules.each_ref().map(String::as_str));
    let gone = "delete rule ip cni_hostport hostports handle 5\n";
    assert_eq!(table.without(&[trace(&["10.88.0.2"])]), gone);
    assert_eq!(table.without(&[trace(&[])]), format!("{gone}{}", gone.replace('5', "6")));
    assert_eq!(table.without(&[Trace { ifname: None, ..trace(&[]) }]), "");
    assert_eq!(table.published()[0], ("tcp", 8080, None, "c1"));
}

#[test]
fn masquerading_goes_by_the_hash_in_its_comment() {
    let begin = trace(&[]).masquerade_comment().unwrap();
    let rule = |handle: u32, comment: &str| {
        format!(
            r#"{{"rule": {{"chain": "masq_checks", "handle": {handle}, "comment": "{comment}", "expr": []}}}}"#
        )
    };
    let mine = rule(3, &format!("{begin}net: mynet, if: eth0, id: c1"));
    let other = rule(4, "0123456789abcdef-0123456789abcdef, net: mynet, if: eth0, id: c1");
    let table = listing(NftFamily::Inet, NFT_MASQUERADE, &[&mine, &other]);
    assert_eq!(
        table.without(&[trace(&[])]),
        "delete rule inet cni_plugins_masquerade masq_checks handle 3\n"
    );
    assert_eq!(table.masqueraded("mynet").next(), Some(("eth0", "c1", None)));
}

#[test]
fn guards_go_with_their_chains() {
    let chain = |name: &str| format!(r#"{{"chain": {{"name": "{name}"}}}}"#);
    let jump =
        r#"{"rule": {"chain": "PREROUTING", "handle": 8, "comment": "macspoofchk-c1-eth0", "expr": []}}"#;
    let chains = [chain("cni-br-iface-c1-eth0"), chain("cni-br-iface-c1-eth0-mac"), chain("PREROUTING")];
    let table = listing(NftFamily::Bridge, "nat", &[&chains[0], &chains[1], &chains[2], jump]);
    let script = table.without(&[trace(&[])]);
    assert!(script.starts_with("delete rule bridge nat PREROUTING handle 8\nflush chain"), "{script}");
    assert!(script.ends_with("delete chain bridge nat cni-br-iface-c1-eth0-mac\n"), "{script}");
    assert!(!script.contains("chain bridge nat PREROUTING"), "{script}");
}

#[test]
fn what_nft_did_not_print_is_no_listing() {
    for bad in ["", "{}", r#"{"nftables": 1}"#] {
        assert_eq!(Listing::parse(NftFamily::Ip, "t", bad), None, "{bad}");
    }
}
