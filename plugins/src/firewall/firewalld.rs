//! firewalld by D-Bus: containers' addresses as sources of a zone that lets them through.

use std::env;
use std::net::IpAddr;
use std::path::Path;

use zbus::Connection;
use zbus::block_on;

use super::Error;

const NAME: &str = "org.fedoraproject.FirewallD1";
const OBJECT: &str = "/org/fedoraproject/FirewallD1";
const ZONES: &str = "org.fedoraproject.FirewallD1.zone";

/// A running firewalld.
pub(super) struct Firewalld {
    bus: Connection,
}

impl Firewalld {
    /// None when there is no bus or firewalld is not on it.
    pub(super) fn running() -> Option<Self> {
        let told = env::var_os("DBUS_SYSTEM_BUS_ADDRESS").is_some();
        let usual = ["/run/dbus/system_bus_socket", "/var/run/dbus/system_bus_socket"];
        if !told && !usual.iter().any(|path| Path::new(path).exists()) {
            return None;
        }
        Self::connect().ok()
    }

    /// Connects, or says why not.
    pub(super) fn connect() -> Result<Self, Error> {
        let no_answer = |error| Error::Firewalld(Box::new(error));
        let bus = block_on(Connection::system()).map_err(no_answer)?;
        let state = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus");
        let reply = block_on(bus.call_method(Some(state.0), state.1, Some(state.2), "NameHasOwner", &NAME))
            .map_err(no_answer)?;
        match reply.body().deserialize::<bool>().map_err(no_answer)? {
            true => Ok(Self { bus }),
            false => Err(no_answer(zbus::Error::NameTaken)),
        }
    }

    /// Puts an address into a zone. That it is there already is fine.
    pub(super) fn add(&self, zone: &str, address: IpAddr) -> Result<(), Error> {
        self.change("addSource", zone, address, "ALREADY_ENABLED")
    }

    /// Takes an address out of a zone. That it is not there is fine.
    pub(super) fn remove(&self, zone: &str, address: IpAddr) -> Result<(), Error> {
        self.change("removeSource", zone, address, "NOT_ENABLED")
    }

    /// Whether the address is in the zone.
    pub(super) fn has(&self, zone: &str, address: IpAddr) -> Result<bool, Error> {
        let what = format!("querySource {address} in zone {zone}");
        let source = address.to_string();
        let refused = |source| Error::Refused { what: what.clone(), source: Box::new(source) };
        let words = (zone, source.as_str());
        let reply = block_on(self.bus.call_method(Some(NAME), OBJECT, Some(ZONES), "querySource", &words))
            .map_err(refused)?;
        reply.body().deserialize().map_err(refused)
    }

    fn change(&self, method: &str, zone: &str, address: IpAddr, done: &str) -> Result<(), Error> {
        let source = address.to_string();
        let words = (zone, source.as_str());
        match block_on(self.bus.call_method(Some(NAME), OBJECT, Some(ZONES), method, &words)) {
            Err(error) if error.to_string().contains(done) => Ok(()),
            Err(source) => Err(Error::Refused {
                what: format!("{method} {address} in zone {zone}"),
                source: Box::new(source),
            }),
            Ok(_) => Ok(()),
        }
    }
}
