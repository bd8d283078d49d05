//! `zeugma network inspect`: a network and who is on it, in the form of `docker network inspect`.

use std::process::ExitCode;

use anyhow::Result;
use ipnetwork::IpNetwork;
use serde_json::{Map, Value, json};
use zeugma_journal::Journal;
use zeugma_model::{Network, NetworkName};
use zeugma_networks::List;

use super::Places;
use super::container::{Attachment, Container, containers};
use super::listed::all;

/// Those that there are, and a failure when one is missing: as Docker does.
pub(super) fn run(names: &[NetworkName], places: &Places) -> Result<ExitCode> {
    let (mut found, mut code) = (Vec::new(), ExitCode::SUCCESS);
    let on_host = containers(&Journal::default())?;
    let lists = places.directory().lists()?;
    let shared = all().unwrap_or_default();
    for name in names {
        let list = lists.iter().find(|list| list.name == *name);
        let known = list.and_then(List::network);
        let known =
            known.or_else(|| shared.iter().map(|view| &view.network).find(|it| it.name == *name).cloned());
        let Some(mut shown) = known.as_ref().map(ours).or_else(|| list.map(theirs)) else {
            eprintln!("Error: there is no network {name}: `zeugma network ls` lists them");
            code = ExitCode::FAILURE;
            continue;
        };
        shown["Containers"] = Value::Object(on_host.values().flat_map(|one| endpoints(one, name)).collect());
        found.push(shown);
    }
    println!("{}", serde_json::to_string_pretty(&found)?);
    Ok(code)
}

fn ours(network: &Network) -> Value {
    let config = network.subnets.iter().map(|subnet| {
        let mut config = json!({"Subnet": subnet.subnet, "Gateway": subnet.gateway});
        if let Some(range) = subnet.range {
            config["IPRange"] = json!(range);
        }
        config
    });
    let mut options = network.options.clone();
    if let Some(mtu) = network.mtu {
        options.entry("com.docker.network.driver.mtu".into()).or_insert_with(|| mtu.to_string());
    }
    if !network.icc {
        options.entry("com.docker.network.bridge.enable_icc".into()).or_insert_with(|| "false".into());
    }
    if let Some(bridge) = network.bridge() {
        options.entry("com.docker.network.bridge.name".into()).or_insert_with(|| bridge.to_string());
    }
    json!({
        "Name": network.name,
        "Created": rfc3339(network.created),
        "Scope": if network.is_shared() { "swarm" } else { "local" },
        "Driver": network.driver.as_str(),
        "EnableIPv6": network.subnets.iter().any(|subnet| subnet.subnet.is_ipv6()),
        "IPAM": {"Driver": "default", "Config": config.collect::<Vec<_>>()},
        "Internal": network.internal,
        "Options": options,
        "Labels": network.labels,
    })
}

/// What a list of another maker tells.
fn theirs(list: &List) -> Value {
    let config = list.subnets().into_iter().map(|(subnet, gateway)| match gateway {
        Some(gateway) => json!({"Subnet": subnet, "Gateway": gateway}),
        None => json!({"Subnet": subnet}),
    });
    let config: Vec<Value> = config.collect();
    let has_v6 = list.subnets().iter().any(|(subnet, _)| subnet.is_ipv6());
    json!({
        "Name": list.name, "Scope": "local", "Driver": list.driver(), "EnableIPv6": has_v6,
        "IPAM": {"Driver": "default", "Config": config}, "Options": {"file": list.path}, "Labels": {},
    })
}

/// One entry; a container that is on the network more than once has the interface in its key.
fn endpoints(container: &Container, network: &NetworkName) -> Map<String, Value> {
    let on: Vec<&Attachment> = container.on(network).collect();
    let key = |attachment: &Attachment| match on.len() {
        1 => container.id.to_string(),
        _ => format!("{}/{}", container.id, attachment.id.ifname),
    };
    on.iter().map(|attachment| (key(attachment), endpoint(container, attachment))).collect()
}

fn endpoint(container: &Container, attachment: &Attachment) -> Value {
    let of_family = |v4: bool| {
        let address = attachment.addresses.iter().find(|address: &&IpNetwork| address.is_ipv4() == v4);
        address.map(ToString::to_string).unwrap_or_default()
    };
    json!({
        "Name": container.names.first().cloned().unwrap_or_default(),
        "Interface": attachment.id.ifname,
        "MacAddress": attachment.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        "IPv4Address": of_family(true),
        "IPv6Address": of_family(false),
    })
}

/// Seconds since 1970 as date and time in UTC (RFC 3339): the civil calendar by Hinnant's `civil_from_days`.
fn rfc3339(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_docker_writes_them() {
        // date -u -d @N +%FT%TZ
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }

    #[test]
    fn a_network_has_docker_s_shape() {
        let network = json!({"name": "front", "icc": false, "mtu": 1400, "created": 1_700_000_000,
            "subnets": [{"subnet": "10.1.0.0/24"}], "labels": {"a": "b"}});
        let shown = ours(&serde_json::from_value(network).unwrap());
        assert_eq!(shown["IPAM"]["Config"], json!([{"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.1"}]));
        assert_eq!(
            (&shown["Created"], &shown["EnableIPv6"]),
            (&json!("2023-11-14T22:13:20Z"), &json!(false))
        );
        assert_eq!(shown["Options"]["com.docker.network.bridge.enable_icc"], "false");
        assert_eq!(shown["Options"]["com.docker.network.driver.mtu"], "1400");
        assert_eq!(shown["Options"]["com.docker.network.bridge.name"], "br-front");
    }
}
