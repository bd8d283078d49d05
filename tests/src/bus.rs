//! A system bus of a world's own: `/run` is private, so nobody else's programs are on it.

use std::fs;

use anyhow::{Result, ensure};
use netns_fixtures::{Running, eventually};

use crate::agent::SOON;
use crate::stage::Stage;

/// Where it listens, as D-Bus writes addresses.
pub const ADDRESS: &str = "unix:path=/run/dbus/system_bus_socket";
const SOCKET: &str = "/run/dbus/system_bus_socket";
const CONFIG: &str = r#"<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <policy context="default">
    <allow user="*"/><allow own="*"/>
    <allow send_destination="*"/><allow receive_sender="*"/>
    <allow send_type="signal"/><allow receive_type="signal"/>
    <allow send_requested_reply="true"/><allow receive_requested_reply="true"/>
  </policy>
</busconfig>
"#;

/// Starts it; it ends when this is dropped.
///
/// # Errors
/// When it does not begin to listen.
pub fn start(stage: &Stage<'_>) -> Result<Running> {
    let config = stage.world.dir().join("bus.xml");
    fs::write(&config, CONFIG)?;
    fs::create_dir_all("/run/dbus")?;
    let config = format!("--config-file={}", config.display());
    let bus = stage.host.spawn(["dbus-daemon", "--nofork", "--nopidfile", &config])?;
    ensure!(eventually(SOON, || fs::exists(SOCKET).unwrap_or(false)), "no system bus: {}", bus.log());
    Ok(bus)
}
