//! Hosts, containers and topologies out of namespaces: throw-away ones for tests, lasting ones for labs.
//!
//! Labs take [`lasting`] alone. Everything else is for tests.
//!
//! What is here: worlds that vanish with the thread that made them (also on SIGKILL), links between
//! hosts, commands and sockets inside a host, real traffic with deadlines, oracles that ask `ip`, `nft`
//! and `conntrack`, and a small CNI runtime to drive plugins with. What is not: anything of the product.
//! An oracle must not share code with what it judges, so no other crate of this workspace is used here.
//!
//! ```no_run
//! use netns_fixtures::{Chain, run};
//! use serde_json::json;
//!
//! run(|world| {
//!     let (host, client) = (world.host("host")?, world.host("client")?);
//!     world.link((&host, "eth0", "192.0.2.1/24"), (&client, "eth0", "192.0.2.2/24"))?;
//!     let chain = Chain::new("/opt/cni/bin", json!({"cniVersion": "1.0.0", "name": "net", "plugins": []}))?;
//!     let web = world.container("web")?.attachment("web-id", "eth0");
//!     chain.add(&host, &web)?;
//!     let _server = web.container().tcp_echo("0.0.0.0:80", "web")?;
//!     assert_eq!(host.ask_tcp("10.88.0.2:80")?, "web 10.88.0.1");
//!     Ok(())
//! });
//! ```

mod cni;
mod command;
mod host;
pub mod lasting;
mod layer;
mod oracle;
mod residue;
mod sctp;
mod server;
mod traffic;
mod world;

pub use cni::{Attachment, Call, Chain, CniError, Outcome};
pub use command::{Finished, HostCommand, Running};
pub use host::Host;
pub use residue::Residue;
pub use server::Server;
pub use traffic::{AskError, eventually};
pub use world::{End, World, run, try_run};
