//! What a result must look like in each CNI version: keys that must be there, keys that must not.

use anyhow::{Context, Result, bail, ensure};
use netns_fixtures::Attachment;
use serde_json::Value;

use super::rig::Plugin;

/// Demands the shape that `version` has for a result of `plugin` on `attachment`.
pub(super) fn ensure_shape(
    result: &Value,
    version: &str,
    plugin: Plugin,
    attachment: &Attachment,
) -> Result<()> {
    ensure!(result["cniVersion"] == version, "cniVersion is not {version}: {result}");
    if matches!(version, "0.1.0" | "0.2.0") {
        return ensure_shape_before_0_3(result, plugin);
    }
    ensure!(result.get("ip4").is_none(), "ip4 is of 0.2.0: {result}");
    let ips = result["ips"].as_array().with_context(|| format!("ips is no list: {result}"))?;
    for ip in ips {
        let has_family = matches!(ip["version"].as_str(), Some("4" | "6"));
        let wants_family = version.starts_with("0.");
        ensure!(has_family == wants_family, "ips[].version exists exactly before 1.0.0: {result}");
        ensure!(ip["address"].as_str().is_some_and(|cidr| cidr.contains('/')), "ips[].address: {result}");
    }
    if plugin.is_ipam() {
        ensure!(result.get("interfaces").is_none(), "an IPAM result has no interfaces: {result}");
        return Ok(());
    }
    ensure_interfaces(result, ips, attachment)
}

fn ensure_shape_before_0_3(result: &Value, plugin: Plugin) -> Result<()> {
    for key in ["ips", "interfaces", "routes"] {
        ensure!(result.get(key).is_none(), "{key} is of 0.3.0: {result}");
    }
    let address = result["ip4"]["ip"].as_str();
    ensure!(plugin == Plugin::Loopback || address.is_some_and(|cidr| cidr.contains('/')), "ip4.ip: {result}");
    Ok(())
}

/// Container interfaces name their namespace, and every address names a container interface.
fn ensure_interfaces(result: &Value, ips: &[Value], attachment: &Attachment) -> Result<()> {
    let interfaces = result["interfaces"].as_array().with_context(|| format!("no interfaces: {result}"))?;
    let netns = attachment.container().path().display().to_string();
    let ours = |interface: &Value| interface["sandbox"] == netns.as_str();
    let container = interfaces.iter().find(|interface| ours(interface));
    let Some(container) = container else { bail!("no interface has sandbox {netns}: {result}") };
    ensure!(container["name"] == attachment.ifname(), "the container's interface is misnamed: {result}");
    for ip in ips {
        let index = ip["interface"].as_u64().and_then(|index| usize::try_from(index).ok());
        let named = index.and_then(|index| interfaces.get(index));
        ensure!(named.is_some_and(ours), "ips[].interface names no interface of the container: {result}");
    }
    Ok(())
}
