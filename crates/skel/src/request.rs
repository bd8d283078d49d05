//! What a plugin is asked, and what every plugin answers.

use std::path::PathBuf;

use zeugma_model::{AttachmentId, ContainerId, IfName};
use zeugma_protocol::{CniCode, CniResult, NetConf, Version};

use crate::CniArgs;

/// What ADD, CHECK and DEL get.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The configuration from standard input.
    pub conf: NetConf,
    /// `CNI_CONTAINERID`.
    pub container: ContainerId,
    /// `CNI_NETNS`; none only in DEL, when the runtime has no namespace any more.
    pub netns: Option<PathBuf>,
    /// `CNI_IFNAME`.
    pub ifname: IfName,
    /// `CNI_ARGS`.
    pub args: CniArgs,
    /// `CNI_PATH`.
    pub path: Vec<PathBuf>,
    /// The configuration byte for byte, for delegates.
    pub stdin: Vec<u8>,
}

impl Request {
    /// The attachment that is asked for.
    pub fn attachment(&self) -> AttachmentId {
        AttachmentId {
            network: self.conf.name.clone(),
            container: self.container.clone(),
            ifname: self.ifname.clone(),
        }
    }
}

/// What GC and STATUS get: a network, no container.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkRequest {
    /// The configuration from standard input.
    pub conf: NetConf,
    /// `CNI_PATH`.
    pub path: Vec<PathBuf>,
    /// The configuration byte for byte, for delegates.
    pub stdin: Vec<u8>,
}

/// A CNI plugin: all verbs, always.
pub trait Plugin {
    /// What can go wrong, with its code.
    type Error: CniCode;
    /// The plain name, as in `type`: `bridge`.
    const NAME: &'static str;
    /// The oldest version of the specification it serves.
    const OLDEST: Version = Version::V0_1_0;

    /// Attaches, or adjusts what the plugins before it attached. Undoes its own steps when one fails.
    fn add(&self, request: &Request) -> Result<CniResult, Self::Error>;
    /// Undoes ADD; what is already gone is done.
    fn del(&self, request: &Request) -> Result<(), Self::Error>;
    /// Whether everything ADD made is still there.
    fn check(&self, request: &Request) -> Result<(), Self::Error>;
    /// Removes what belongs to attachments of this network that are not in `cni.dev/valid-attachments`.
    fn gc(&self, request: &NetworkRequest) -> Result<(), Self::Error>;
    /// Whether an ADD would work.
    fn status(&self, request: &NetworkRequest) -> Result<(), Self::Error>;
    /// What ADD would do, as text, without privileges and without changing anything.
    fn dry_run(&self, request: &Request) -> Result<String, Self::Error>;
}
