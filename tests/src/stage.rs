//! The stage for the tests of the plugins: a host with an outside client, networks and containers on it.
//! What is promised on it stands in `tests/`; what makes it up comes from `netns-fixtures`.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use netns_fixtures::{Attachment, Chain, CniError, Host, HostCommand, Residue, World};
use serde_json::{Map, Value, json};

use crate::bin_dir;

/// The host's addresses towards the client.
pub const HOST: [&str; 2] = ["192.0.2.1", "2001:db8:1::1"];

/// A host and a client outside; both speak IPv4 and IPv6.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The world they are in.
    pub world: &'a World,
    /// Where containers are attached: 192.0.2.1 and 2001:db8:1::1 on `eth0`.
    pub host: Host,
    /// A machine beside it, also its default route: 192.0.2.2 and 2001:db8:1::2.
    pub client: Host,
    containers: AtomicU32,
}

impl<'a> Stage<'a> {
    /// Sets it up.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(world: &'a World) -> Result<Stage<'a>> {
        let (host, client) = (world.host("host")?, world.host("client")?);
        world.link(
            (&host, "eth0", "192.0.2.1/24 2001:db8:1::1/64"),
            (&client, "eth0", "192.0.2.2/24 2001:db8:1::2/64"),
        )?;
        host.ip("route add default via 192.0.2.2")?;
        Ok(Stage { world, host, client, containers: AtomicU32::new(0) })
    }

    /// A fresh container `c0`, `c1`, … with the interface `eth0` to be.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn container(&self) -> Result<Attachment> {
        let name = format!("c{}", self.containers.fetch_add(1, Ordering::Relaxed));
        Ok(self.world.container(&name)?.attachment(&name, "eth0"))
    }

    /// A fresh container that asks for published ports, written as [`mapping`] has it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn publishing(&self, ports: &[&str]) -> Result<Attachment> {
        Ok(self.container()?.with(published(ports)))
    }

    /// Everything that a plugin could leave behind: the host's [`Residue`], journal, claims and leases.
    ///
    /// # Errors
    /// When an oracle fails.
    pub fn residue(&self) -> Result<Residue> {
        let residue = self.host.residue()?;
        let mut residue = ["attachments", "ports"]
            .iter()
            .fold(residue, |residue, dir| residue.with_files(&self.host.run_dir().join(dir)));
        for network in dirs(&self.host.run_dir().join("networks")) {
            residue = residue.with_lines(leases(&network));
        }
        Ok(residue)
    }

    /// Demands that nothing was left and nothing was lost since `before`.
    ///
    /// # Errors
    /// With the difference.
    pub fn ensure_unchanged(&self, before: &Residue) -> Result<()> {
        let diff = before.diff(&self.residue()?);
        anyhow::ensure!(diff.is_empty(), "the host is not as before:\n{diff}");
        Ok(())
    }
}

fn dirs(dir: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

/// The lease files in a network's directory: those named as an address.
fn leases(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.parse::<std::net::IpAddr>().is_ok())
        .map(|name| format!("lease {}/{name}", dir.display()))
        .collect()
}

/// A network of our plugins in CNI 1.1.0.
///
/// # Errors
/// Never, for a list of objects.
pub fn network(name: &str, plugins: &[Value]) -> Result<Chain> {
    Chain::new(bin_dir(), json!({"cniVersion": "1.1.0", "name": name, "plugins": plugins}))
}

/// A masqueraded dual-stack bridge network: 10.88.N.0/24 and 2001:db8:88:N::/64 on bridge `brN`.
pub fn bridge(number: u8) -> Value {
    json!({
        "type": "bridge", "bridge": format!("br{number}"), "isDefaultGateway": true, "ipMasq": true,
        "capabilities": {"mac": true, "ips": true},
        "ipam": {"type": "host-local", "ranges": [
            [{"subnet": format!("10.88.{number}.0/24")}], [{"subnet": format!("2001:db8:88:{number}::/64")}],
        ]},
    })
}

/// `portmap` as runtimes configure it.
pub fn portmap() -> Value {
    json!({"type": "portmap", "capabilities": {"portMappings": true}})
}

/// `firewall` with an ingress policy.
pub fn firewall(policy: &str) -> Value {
    json!({"type": "firewall", "ingressPolicy": policy})
}

/// `object` with `keys` set over it: configs are written once and varied.
pub fn with(mut object: Value, keys: Value) -> Value {
    if let (Value::Object(object), Value::Object(keys)) = (&mut object, keys) {
        object.extend(keys);
    }
    object
}

/// The capability argument for ports, each as in `8080:80`, `192.0.2.1:8080:80/udp`, `[::]:8080:80`.
pub fn published(ports: &[&str]) -> Value {
    let ports: Vec<Value> = ports.iter().map(|port| mapping(port)).collect();
    json!({"portMappings": ports})
}

/// `hostIP:hostPort:containerPort/protocol`; the address and the protocol may be left out.
pub fn mapping(port: &str) -> Value {
    let (rest, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let mut parts = rest.rsplitn(3, ':');
    let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok()).unwrap_or_default();
    let (container, host) = (number(), number());
    let mut mapping = json!({"hostPort": host, "containerPort": container, "protocol": protocol});
    if let Some(address) = parts.next() {
        mapping["hostIP"] = json!(address.trim_matches(['[', ']']));
    }
    mapping
}

/// The container's address of a family (4 or 6) in a result, without prefix length.
///
/// # Errors
/// When there is none.
pub fn address(result: &Value, family: u8) -> Result<String> {
    let of_family = |text: &&str| text.contains(':') == (family == 6);
    let addresses = result["ips"].as_array().into_iter().flatten();
    let mut texts = addresses.filter_map(|ip| ip["address"].as_str());
    let text = texts.find(of_family).with_context(|| format!("no IPv{family} address in {result}"))?;
    Ok(text.split('/').next().unwrap_or_default().to_owned())
}

/// What the plugin said, when it was to refuse.
///
/// # Panics
/// When it succeeded, or failed without an error object.
pub fn refusal<T: std::fmt::Debug>(outcome: Result<T>) -> CniError {
    match outcome {
        Ok(accepted) => panic!("accepted, with {accepted:?}"),
        Err(error) => match error.downcast::<CniError>() {
            Ok(error) if error.code > 0 => error,
            Ok(error) => panic!("no error object: {error}"),
            Err(error) => panic!("not a plugin's refusal: {error:?}"),
        },
    }
}

/// One verb of one plugin as a command, to be run under something or for a short time: `wrapper` comes
/// before the executable.
pub fn command(
    host: &Host,
    wrapper: &[String],
    verb: &str,
    attachment: Option<&Attachment>,
    config: &Value,
) -> HostCommand {
    let plugin = bin_dir().join(config["type"].as_str().unwrap_or_default());
    let mut words = wrapper.to_vec();
    words.push(plugin.display().to_string());
    let mut command = host
        .command(&words[0])
        .args(&words[1..])
        .env("CNI_COMMAND", verb)
        .env("CNI_PATH", bin_dir())
        .stdin(config.to_string());
    if let Some(attachment) = attachment {
        let netns = attachment.netns_path().map(|path| path.display().to_string());
        command = command
            .env("CNI_CONTAINERID", attachment.id())
            .env("CNI_IFNAME", attachment.ifname())
            .env("CNI_NETNS", netns.unwrap_or_default());
    }
    command
}

/// A plugin's configuration as a map, as [`Chain::config`] wants it.
pub fn object(config: &Value) -> Map<String, Value> {
    config.as_object().cloned().unwrap_or_default()
}
