//! The IPAM that a plugin delegates to: a function call when it is one of ours, else an executable.

use std::path::Path;

use zeugma_ipam::{Dhcp, HostLocal, Static};
use zeugma_ipam::{DhcpError, HostLocalError, StaticError};
use zeugma_protocol::{CniCode, CniResult, Code, NetConf};
use zeugma_skel::{Command, NetworkRequest, Plugin, Request, delegate};

use crate::predecessor::Lease;

/// Why the IPAM failed.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// `host-local`.
    #[error(transparent)]
    HostLocal(#[from] HostLocalError),
    /// `static`.
    #[error(transparent)]
    Static(#[from] StaticError),
    /// `dhcp`.
    #[error(transparent)]
    Dhcp(#[from] DhcpError),
    /// An executable.
    #[error(transparent)]
    Delegate(#[from] delegate::DelegateError),
    /// It gave no address.
    #[error("IPAM plugin {ipam} returned no address: check its ranges")]
    NoAddress {
        /// Its type.
        ipam: String,
    },
}

impl CniCode for IpamError {
    fn code(&self) -> Code {
        match self {
            Self::HostLocal(error) => error.code(),
            Self::Static(error) => error.code(),
            Self::Dhcp(error) => error.code(),
            Self::Delegate(error) => error.code(),
            Self::NoAddress { .. } => Code::Plugin(102),
        }
    }

    fn details(&self) -> String {
        match self {
            Self::HostLocal(error) => error.details(),
            Self::Static(error) => error.details(),
            Self::Dhcp(error) => error.details(),
            Self::Delegate(error) => error.details(),
            Self::NoAddress { .. } => String::new(),
        }
    }
}

/// The `type` in `ipam`; none: the network has no IPAM.
pub(crate) fn type_of(conf: &NetConf) -> Option<&str> {
    conf.ipam_type()
}

/// Where an IPAM is.
enum Where {
    HostLocal,
    Static,
    Dhcp,
    File(std::path::PathBuf),
}

fn place(ipam: &str, path: &[std::path::PathBuf]) -> Result<Where, IpamError> {
    let binary = delegate::find(ipam, path)?;
    Ok(match ipam.strip_prefix("zeugma-").unwrap_or(ipam) {
        "host-local" if delegate::is_self(&binary) => Where::HostLocal,
        "static" if delegate::is_self(&binary) => Where::Static,
        "dhcp" if delegate::is_self(&binary) => Where::Dhcp,
        _ => Where::File(binary),
    })
}

/// Whether the IPAM may talk through the container's interface, which must then be there before it is asked:
/// `dhcp` does, and an executable that we do not know may.
pub(crate) fn needs_interface(conf: &NetConf, path: &[std::path::PathBuf]) -> Result<bool, IpamError> {
    let Some(ipam) = type_of(conf) else { return Ok(false) };
    Ok(match place(ipam, path)? {
        Where::HostLocal | Where::Static => false,
        Where::Dhcp | Where::File(_) => true,
    })
}

/// Asks for addresses. When the IPAM fails it has been told to undo what it may have begun.
pub(crate) fn add(request: &Request) -> Result<CniResult, IpamError> {
    let Some(ipam) = type_of(&request.conf) else { return Ok(CniResult::default()) };
    let place = place(ipam, &request.path)?;
    let given = match &place {
        Where::HostLocal => HostLocal.add(request).map_err(IpamError::from),
        Where::Static => Static.add(request).map_err(IpamError::from),
        Where::Dhcp => Dhcp.add(request).map_err(IpamError::from),
        Where::File(binary) => exec(binary, Command::Add, request).map(Option::unwrap_or_default),
    };
    match given {
        Ok(result) if result.ips.is_empty() => {
            give_up(request);
            Err(IpamError::NoAddress { ipam: ipam.into() })
        }
        Ok(result) => Ok(result),
        Err(error) => {
            if matches!(place, Where::File(_)) {
                give_up(request);
            }
            Err(error)
        }
    }
}

/// Gives the addresses back after a failure; that failure is the one to tell.
pub(crate) fn give_up(request: &Request) {
    let _ = del(request);
}

/// Gives the addresses back.
pub(crate) fn del(request: &Request) -> Result<(), IpamError> {
    let Some(ipam) = type_of(&request.conf) else { return Ok(()) };
    match place(ipam, &request.path)? {
        Where::HostLocal => Ok(HostLocal.del(request)?),
        Where::Static => Ok(Static.del(request)?),
        Where::Dhcp => Ok(Dhcp.del(request)?),
        Where::File(binary) => exec(&binary, Command::Del, request).map(drop),
    }
}

/// Whether the addresses are still given.
pub(crate) fn check(request: &Request) -> Result<(), IpamError> {
    let Some(ipam) = type_of(&request.conf) else { return Ok(()) };
    match place(ipam, &request.path)? {
        Where::HostLocal => Ok(HostLocal.check(request)?),
        Where::Static => Ok(Static.check(request)?),
        Where::Dhcp => Ok(Dhcp.check(request)?),
        Where::File(binary) => exec(&binary, Command::Check, request).map(drop),
    }
}

/// Forwards GC. Executables that do not know the verb (all of the reference's) are not at fault.
pub(crate) fn gc(request: &NetworkRequest) -> Result<(), IpamError> {
    let Some(ipam) = type_of(&request.conf) else { return Ok(()) };
    match place(ipam, &request.path)? {
        Where::HostLocal => Ok(HostLocal.gc(request)?),
        Where::Static => Ok(Static.gc(request)?),
        Where::Dhcp => Ok(Dhcp.gc(request)?),
        Where::File(binary) => tolerate(delegate::exec(&binary, Command::Gc, request, &request.stdin)),
    }
}

/// The addresses that the network's attachments have, as far as the directory of host-local tells it.
pub(crate) fn leases(request: &NetworkRequest) -> Vec<Lease> {
    type_of(&request.conf).map_or_else(Vec::new, |_| leases_of(&request.conf))
}

/// The same for a plugin behind the one that has `ipam`, which is told nothing of it: host-local has a directory of
/// the network's name if it was the one that gave the addresses.
pub(crate) fn leases_of(conf: &NetConf) -> Vec<Lease> {
    let is_host_local =
        type_of(conf).is_none_or(|ipam| ipam.strip_prefix("zeugma-").unwrap_or(ipam) == "host-local");
    let leases = if is_host_local { HostLocal.leases(conf).unwrap_or_default() } else { Vec::new() };
    let lease = |(address, container, ifname)| Lease { address, container, ifname };
    leases.into_iter().map(lease).collect()
}

/// Forwards STATUS.
pub(crate) fn status(request: &NetworkRequest) -> Result<(), IpamError> {
    let Some(ipam) = type_of(&request.conf) else { return Ok(()) };
    match place(ipam, &request.path)? {
        Where::HostLocal => Ok(HostLocal.status(request)?),
        Where::Static => Ok(Static.status(request)?),
        Where::Dhcp => Ok(Dhcp.status(request)?),
        Where::File(binary) => tolerate(delegate::exec(&binary, Command::Status, request, &request.stdin)),
    }
}

/// What would be given, without taking it.
pub(crate) fn preview(request: &Request) -> Result<String, IpamError> {
    let Some(ipam) = type_of(&request.conf) else { return Ok(String::new()) };
    match ipam.strip_prefix("zeugma-").unwrap_or(ipam) {
        "host-local" => Ok(HostLocal.dry_run(request)?),
        "static" => Ok(Static.dry_run(request)?),
        "dhcp" => Ok(Dhcp.dry_run(request)?),
        other => Ok(format!("host: exec {other} (CNI_COMMAND=ADD)\n")),
    }
}

/// Addresses for a dry run: those that would be given, where the IPAM is ours and can say.
pub(crate) fn rehearsed(request: &Request) -> Result<CniResult, IpamError> {
    match type_of(&request.conf).map(|ipam| ipam.strip_prefix("zeugma-").unwrap_or(ipam)) {
        Some("host-local") => Ok(HostLocal.peek(request)?),
        Some("static") => Ok(Static.add(request)?),
        Some(_) | None => Ok(CniResult::default()),
    }
}

fn exec(binary: &Path, command: Command, request: &Request) -> Result<Option<CniResult>, IpamError> {
    Ok(delegate::exec(binary, command, request, &request.stdin)?)
}

fn tolerate(outcome: Result<Option<CniResult>, delegate::DelegateError>) -> Result<(), IpamError> {
    match outcome {
        Err(error) if error.is_unknown_verb() => Ok(()),
        other => Ok(other.map(drop)?),
    }
}
