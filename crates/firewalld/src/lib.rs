//! firewalld by D-Bus: containers' addresses as sources of a zone that lets them through, and when it forgets them.
//!
//! What is put in here lasts until firewalld is reloaded or restarted: its files on disk are the administrator's.

use std::collections::BTreeSet;
use std::env;
use std::future::poll_fn;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;

use zbus::block_on;
use zbus::export::futures_core::Stream;
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream};

const NAME: &str = "org.fedoraproject.FirewallD1";
const OBJECT: &str = "/org/fedoraproject/FirewallD1";
const ZONES: &str = "org.fedoraproject.FirewallD1.zone";
const BUS: &str = "org.freedesktop.DBus";

/// Why firewalld did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not answer.
    #[error("firewalld does not answer on D-Bus: {0}; start it, or use another backend")]
    NoAnswer(Box<zbus::Error>),
    /// It refused.
    #[error("firewalld refused {what}: {source}")]
    Refused {
        /// What was asked of it.
        what: String,
        /// Its words.
        source: Box<zbus::Error>,
    },
}

fn no_answer(error: zbus::Error) -> Error {
    Error::NoAnswer(Box::new(error))
}

/// A running firewalld. All of its calls block; none may be made from a task of an asynchronous runtime.
#[derive(Debug)]
pub struct Firewalld {
    bus: Connection,
}

impl Firewalld {
    /// None when there is no bus or firewalld is not on it.
    pub fn running() -> Option<Self> {
        if has_bus() { Self::connect().ok() } else { None }
    }

    /// Connects, or says why not.
    ///
    /// # Errors
    /// [`Error::NoAnswer`].
    pub fn connect() -> Result<Self, Error> {
        let bus = block_on(Connection::system()).map_err(no_answer)?;
        let reply =
            block_on(bus.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), "NameHasOwner", &NAME))
                .map_err(no_answer)?;
        match reply.body().deserialize::<bool>().map_err(no_answer)? {
            true => Ok(Self { bus }),
            false => Err(no_answer(zbus::Error::NameTaken)),
        }
    }

    /// Puts an address into a zone. That it is there already is fine.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn add(&self, zone: &str, address: IpAddr) -> Result<(), Error> {
        self.change("addSource", zone, address, "ALREADY_ENABLED")
    }

    /// Takes an address out of a zone. That it is not there is fine.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn remove(&self, zone: &str, address: IpAddr) -> Result<(), Error> {
        self.change("removeSource", zone, address, "NOT_ENABLED")
    }

    /// Whether the address is in the zone.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn has(&self, zone: &str, address: IpAddr) -> Result<bool, Error> {
        let what = format!("querySource {address} in zone {zone}");
        let source = address.to_string();
        let refused = |source| Error::Refused { what: what.clone(), source: Box::new(source) };
        let words = (zone, source.as_str());
        let reply = block_on(self.bus.call_method(Some(NAME), OBJECT, Some(ZONES), "querySource", &words))
            .map_err(refused)?;
        reply.body().deserialize().map_err(refused)
    }

    /// The addresses in a zone; its other sources, such as networks, are left out.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn sources(&self, zone: &str) -> Result<BTreeSet<IpAddr>, Error> {
        let what = format!("getSources of zone {zone}");
        let refused = |source| Error::Refused { what: what.clone(), source: Box::new(source) };
        let reply = block_on(self.bus.call_method(Some(NAME), OBJECT, Some(ZONES), "getSources", &(zone,)))
            .map_err(refused)?;
        let sources: Vec<String> = reply.body().deserialize().map_err(refused)?;
        Ok(sources.iter().filter_map(|source| source.parse().ok()).collect())
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

fn has_bus() -> bool {
    let told = env::var_os("DBUS_SYSTEM_BUS_ADDRESS").is_some();
    let usual = ["/run/dbus/system_bus_socket", "/var/run/dbus/system_bus_socket"];
    told || usual.iter().any(|path| Path::new(path).exists())
}

/// Calls `forgotten` whenever firewalld was reloaded, or began or ended: then its zones hold what is on disk. Returns
/// when the bus goes, or when there is none.
///
/// # Errors
/// [`Error::NoAnswer`] when the bus does not let us listen.
pub fn listen(forgotten: impl Fn()) -> Result<(), Error> {
    if !has_bus() {
        return Ok(());
    }
    block_on(async {
        let bus = Connection::system().await?;
        let signal = || MatchRule::builder().msg_type(Type::Signal);
        let reloaded = signal().interface(NAME).member("Reloaded").build()?;
        let owner = signal().sender(BUS).member("NameOwnerChanged").arg(0, NAME).build()?;
        let mut reloaded = MessageStream::for_match_rule(reloaded, &bus, None).await?;
        let mut owner = MessageStream::for_match_rule(owner, &bus, None).await?;
        loop {
            let news = poll_fn(|cx| {
                let first = Pin::new(&mut reloaded).poll_next(cx);
                if first.is_ready() { first } else { Pin::new(&mut owner).poll_next(cx) }
            });
            match news.await {
                Some(Ok(_)) => forgotten(),
                Some(Err(_)) | None => return Ok(()),
            }
        }
    })
    .map_err(no_answer)
}
