//! The Container Runtime Interface as a kubelet uses it: sandboxes, their status, one
//! container in each. It waits for each answer; images, exec and logs are left out.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_cri::v1;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tonic::transport::{Channel, Endpoint};

pub use v1::{PortMapping, Protocol};

/// A client of one runtime.
pub struct Cri {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
    cgroup: String,
}

/// A sandbox that runs.
#[derive(Clone, Debug)]
pub struct Pod {
    /// The runtime's id of the sandbox; CNI_CONTAINERID.
    pub id: String,
    config: v1::PodSandboxConfig,
}

impl fmt::Debug for Cri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Cri")
    }
}

impl Cri {
    /// Connects to the socket at `path`; all pods go below the cgroup `cgroup`.
    pub(crate) fn connect(path: &Path, cgroup: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint =
            Endpoint::from_shared(format!("unix://{}", path.display()))?.timeout(Duration::from_secs(30));
        let channel = runtime.block_on(endpoint.connect())?;
        Ok(Self { runtime, channel, cgroup: format!("/{cgroup}") })
    }

    fn client(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone())
    }

    /// Fails until the runtime says that its network is configured and that it has `image`.
    pub(crate) fn ready(&self, image: &str) -> Result<()> {
        let status = self.runtime.block_on(self.client().status(v1::StatusRequest::default()))?.into_inner();
        let conditions = status.status.unwrap_or_default().conditions;
        if let Some(unready) = conditions.iter().find(|condition| !condition.status) {
            bail!("{}: {} {}", unready.r#type, unready.reason, unready.message);
        }
        let image = v1::ImageSpec { image: image.to_owned(), ..Default::default() };
        let request = v1::ImageStatusRequest { image: Some(image), verbose: false };
        let mut images = ImageServiceClient::new(self.channel.clone());
        let known = self.runtime.block_on(images.image_status(request))?.into_inner().image;
        ensure!(known.is_some(), "the image is not known yet");
        Ok(())
    }

    /// RunPodSandbox: a pod called `name` with these ports of the host.
    pub fn run_pod(&self, name: &str, port_mappings: Vec<PortMapping>) -> Result<Pod> {
        self.sandbox(name, v1::PodSandboxConfig { port_mappings, ..Default::default() })
    }

    /// The same without ports, and with the DNS server and search domain that a kubelet was told of.
    pub fn run_pod_that_asks(&self, name: &str, server: &str, search: &str) -> Result<Pod> {
        let dns = v1::DnsConfig {
            servers: vec![server.to_owned()],
            searches: vec![search.to_owned()],
            ..Default::default()
        };
        self.sandbox(name, v1::PodSandboxConfig { dns_config: Some(dns), ..Default::default() })
    }

    fn sandbox(&self, name: &str, config: v1::PodSandboxConfig) -> Result<Pod> {
        let metadata = v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: name.to_owned(),
            namespace: "default".to_owned(),
            attempt: 0,
        };
        let config = v1::PodSandboxConfig {
            metadata: Some(metadata),
            hostname: name.to_owned(),
            linux: Some(v1::LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup.clone(),
                ..Default::default()
            }),
            ..config
        };
        let request =
            v1::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let id = self.runtime.block_on(self.client().run_pod_sandbox(request))?.into_inner().pod_sandbox_id;
        Ok(Pod { id, config })
    }

    /// PodSandboxStatus: the pod's address.
    pub fn address(&self, pod: &Pod) -> Result<String> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: false };
        let answer = self.runtime.block_on(self.client().pod_sandbox_status(request))?.into_inner();
        let network = answer.status.and_then(|status| status.network);
        Ok(network.context("the status names no network")?.ip)
    }

    /// CreateContainer and StartContainer: `command` in the pod.
    pub fn start(&self, pod: &Pod, image: &str, command: Vec<String>) -> Result<()> {
        let config = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
            image: Some(v1::ImageSpec { image: image.to_owned(), ..Default::default() }),
            command,
            linux: Some(v1::LinuxContainerConfig::default()),
            ..Default::default()
        };
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        let mut client = self.client();
        self.runtime.block_on(async {
            let container_id = client.create_container(request).await?.into_inner().container_id;
            client.start_container(v1::StartContainerRequest { container_id }).await
        })?;
        Ok(())
    }

    /// StopPodSandbox and RemovePodSandbox.
    pub fn remove(&self, pod: &Pod) -> Result<()> {
        let stop = v1::StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        let remove = v1::RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        let mut client = self.client();
        self.runtime.block_on(async {
            client.stop_pod_sandbox(stop).await?;
            client.remove_pod_sandbox(remove).await
        })?;
        Ok(())
    }
}
