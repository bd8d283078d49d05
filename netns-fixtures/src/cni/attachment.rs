//! What a runtime knows of one container on one network.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::Host;

/// A container's interface as a runtime asks for it: id, ifname, namespace, capability arguments, CNI_ARGS.
#[derive(Clone, Debug)]
pub struct Attachment {
    container: Host,
    pub(super) id: String,
    pub(super) ifname: String,
    pub(super) netns: Option<PathBuf>,
    pub(super) capabilities: Map<String, Value>,
    pub(super) args: String,
}

impl Attachment {
    pub(crate) fn new(container: &Host, id: &str, ifname: &str) -> Attachment {
        Attachment {
            container: container.clone(),
            id: id.into(),
            ifname: ifname.into(),
            netns: Some(container.path().into()),
            capabilities: Map::new(),
            args: String::new(),
        }
    }

    /// Capability arguments, an object as in `json!({"portMappings": [...], "mac": "..."})`. Each plugin
    /// gets those that it declares, as `runtimeConfig`.
    ///
    /// # Panics
    /// When `capabilities` is no object.
    pub fn with(mut self, capabilities: Value) -> Attachment {
        let Value::Object(capabilities) = capabilities else {
            panic!("capability arguments are an object, not {capabilities}");
        };
        self.capabilities = capabilities;
        self
    }

    /// `CNI_ARGS`, e.g. `IgnoreUnknown=1;IP=10.0.0.7`.
    pub fn args(mut self, args: &str) -> Attachment {
        self.args = args.into();
        self
    }

    /// Another `CNI_NETNS`, e.g. one that is gone.
    pub fn netns(mut self, path: impl Into<PathBuf>) -> Attachment {
        self.netns = Some(path.into());
        self
    }

    /// An empty `CNI_NETNS`, as a runtime sends after the sandbox died.
    pub fn without_netns(mut self) -> Attachment {
        self.netns = None;
        self
    }

    /// The namespace it is in.
    pub fn container(&self) -> &Host {
        &self.container
    }

    /// The container id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The interface name.
    pub fn ifname(&self) -> &str {
        &self.ifname
    }

    /// `CNI_NETNS`, unless it is empty.
    pub fn netns_path(&self) -> Option<&Path> {
        self.netns.as_deref()
    }
}
