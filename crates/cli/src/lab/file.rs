//! A lab's file as it is written: YAML whose words for networks and services are those of `zeugma apply`. What has to
//! agree with something else in it is looked at in `check`.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;
use zeugma_model::{Alias, IfName, Network, NetworkName, NodeName, Service};

/// All of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// The lab's name; the file's, without its ending, unless given.
    pub(super) name: Option<Spanned<NodeName>>,
    /// What agents share; none: each has a file of its own.
    pub(super) store: Option<Spanned<Store>>,
    pub(super) machines: Vec<Machine>,
    #[serde(default)]
    pub(super) links: Vec<Spanned<Link>>,
    #[serde(default)]
    pub(super) networks: Vec<Spanned<Network>>,
    #[serde(default)]
    pub(super) services: Vec<Spanned<Service>>,
    #[serde(default)]
    pub(super) containers: Vec<Container>,
}

/// What agents share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Store {
    /// An etcd of the lab's own.
    Etcd,
}

/// A machine.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Machine {
    pub(super) name: Spanned<NodeName>,
    /// Whether an agent runs on it.
    #[serde(default = "yes")]
    pub(super) agent: bool,
    /// More flags of `zeugma agent`.
    #[serde(default)]
    pub(super) agent_flags: Vec<String>,
    /// Whether it forwards packets from the beginning, as a router does.
    #[serde(default)]
    pub(super) forward: bool,
    #[serde(default)]
    pub(super) routes: Vec<Route>,
    /// What runs on it besides.
    #[serde(default)]
    pub(super) command: Option<Command>,
}

/// A route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) to: Spanned<Destination>,
    pub(super) via: Spanned<IpAddr>,
}

impl Route {
    /// Without its places.
    pub(super) fn plain(&self) -> super::topology::Route {
        super::topology::Route { to: self.to.value, via: self.via.value }
    }
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// Everywhere.
    Default,
    /// There.
    Prefix(IpNetwork),
}

/// A wire between two machines, or a switch that many are on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Link {
    /// The switch's name; none: a wire.
    pub(super) switch: Option<Spanned<NodeName>>,
    pub(super) ends: Vec<Spanned<Brief<End>>>,
    /// Ends that name no address get one of each: the first end the first, and so on.
    #[serde(default)]
    pub(super) subnets: Vec<Spanned<IpNetwork>>,
    /// Bytes.
    #[serde(default)]
    pub(super) mtu: Option<Spanned<u32>>,
    /// Of each direction, as tc(8) has it: `100mbit`.
    #[serde(default)]
    pub(super) rate: Option<Spanned<String>>,
    /// Of each direction, as tc(8) has it: `10ms`.
    #[serde(default)]
    pub(super) delay: Option<Spanned<String>>,
}

/// A machine's end of a link; a word alone is the machine.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) machine: NodeName,
    /// The first of eth0, eth1, … that no end before has, unless given.
    #[serde(default)]
    pub(super) interface: Option<IfName>,
    /// With a prefix length, or of a subnet of the link.
    #[serde(default)]
    pub(super) addresses: Vec<Spanned<String>>,
}

/// A namespace on a machine that runs something.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Container {
    pub(super) name: Spanned<NodeName>,
    /// The one machine that has an agent, unless given.
    #[serde(default)]
    pub(super) machine: Option<Spanned<NodeName>>,
    /// How many there are: NAME-1, NAME-2, …; one, called NAME, unless given.
    #[serde(default)]
    pub(super) replicas: Option<Spanned<u16>>,
    #[serde(default)]
    pub(super) networks: Vec<Spanned<Brief<Join>>>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    /// Ports of the machine: `8080:80`, `192.0.2.1:53:53/udp`.
    #[serde(default)]
    pub(super) publish: Vec<Spanned<Published>>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    /// None: an empty namespace, for `zeugma lab exec`.
    #[serde(default)]
    pub(super) command: Option<Command>,
}

/// A network that a container is on; a word alone is the network.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Join {
    pub(super) name: NetworkName,
    /// The next free ones unless given.
    #[serde(default)]
    pub(super) addresses: Vec<Spanned<IpAddr>>,
    #[serde(default)]
    pub(super) aliases: Vec<Alias>,
}

/// A port of a machine that leads to one of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) address: Option<IpAddr>,
    pub(super) host: u16,
    pub(super) container: u16,
    pub(super) protocol: zeugma_model::Protocol,
}

/// A program and its arguments; a text is for the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command(pub(super) Vec<String>);

/// A value that has a short form, a word.
#[derive(Debug)]
pub(super) struct Brief<T>(pub(super) T);

/// What has a short form.
pub(super) trait Short: Sized {
    /// What is expected.
    const WHAT: &str;
    /// Out of the short form.
    fn of(word: &str) -> Result<Self, String>;
}

impl Short for End {
    const WHAT: &str = "a machine's name, or a map with `machine`";
    fn of(word: &str) -> Result<Self, String> {
        let machine = word.parse().map_err(|error| format!("{error}"))?;
        Ok(Self { machine, interface: None, addresses: Vec::new() })
    }
}

impl Short for Join {
    const WHAT: &str = "a network's name, or a map with `name`";
    fn of(word: &str) -> Result<Self, String> {
        let name = word.parse().map_err(|error| format!("{error}"))?;
        Ok(Self { name, addresses: Vec::new(), aliases: Vec::new() })
    }
}

fn yes() -> bool {
    true
}

impl<'de, T: Short + Deserialize<'de>> Deserialize<'de> for Brief<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordOrMap(PhantomData)).map(Self)
    }
}

struct WordOrMap<T>(PhantomData<T>);

impl<'de, T: Short + Deserialize<'de>> Visitor<'de> for WordOrMap<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(T::WHAT)
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<T, E> {
        T::of(word).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrWords)
    }
}

struct TextOrWords;

impl<'de> Visitor<'de> for TextOrWords {
    type Value = Command;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text for the shell, or a list of words")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Command, E> {
        Ok(Command(["sh", "-c", text].map(str::to_owned).to_vec()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Command, A::Error> {
        let mut found = Vec::new();
        while let Some(word) = words.next_element()? {
            found.push(word);
        }
        if found.is_empty() {
            return Err(A::Error::custom(
                "a command has at least one word: leave it out, or write the program",
            ));
        }
        Ok(Command(found))
    }
}

impl FromStr for Destination {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let prefix = || text.parse().map(Self::Prefix);
        let wrong =
            |_| format!("{text:?} is no destination: write `default` or a prefix such as 10.1.0.0/24");
        if text == "default" { Ok(Self::Default) } else { prefix().map_err(wrong) }
    }
}

impl FromStr for Published {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no published port: write HOST:CONTAINER, such as 8080:80 or 53:53/udp");
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (host, container) = ports.rsplit_once(':').ok_or_else(wrong)?;
        let (address, host) = match host.rsplit_once(':') {
            None => (None, host),
            Some((address, host)) => (Some(address.trim_matches(['[', ']'])), host),
        };
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
        Ok(Self {
            address: address.map(|address| address.parse().map_err(|_| wrong())).transpose()?,
            host: port(host)?,
            container: port(container)?,
            protocol: protocol.parse().map_err(|error| format!("{error}"))?,
        })
    }
}

/// Texts with a meaning.
macro_rules! from_text {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}
from_text!(Destination, Published);
