//! The API's socket: for root alone, and never beside another agent's.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};
use zeugma_api::SOCKET;

use crate::error::Error;

/// Readable and writable for its owner.
const OWNER_ALONE: u32 = 0o600;
/// Writable for group or others.
const OPEN: u32 = 0o022;

/// The listening socket; its file goes with it.
#[derive(Debug)]
pub(crate) struct ApiSocket {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
}

impl ApiSocket {
    /// Makes it in the run directory. The caller has the agent's lock, so that a file that is there is a dead one's.
    pub(crate) fn open(run_dir: &Path) -> Result<Self, Error> {
        let path = run_dir.join(SOCKET);
        let cannot = |action: &'static str| {
            let path = path.clone();
            move |source: io::Error| Error::Socket { action, path, source }
        };
        let owner = owner(run_dir).map_err(cannot("look at the directory of"))?;
        let owner = owner.ok_or_else(|| Error::OpenDirectory { path: run_dir.into() })?;
        // It is made where nobody else may go, so that there is no moment at which others may connect.
        let private = run_dir.join(format!(".agent-{}", std::process::id()));
        let _ = fs::remove_dir_all(&private);
        fs::DirBuilder::new().mode(0o700).create(&private).map_err(cannot("make a directory for"))?;
        let unnamed = private.join(SOCKET);
        let made = UnixListener::bind(&unnamed).and_then(|listener| {
            fs::set_permissions(&unnamed, fs::Permissions::from_mode(OWNER_ALONE))?;
            fs::rename(&unnamed, &path)?;
            Ok(listener)
        });
        let _ = fs::remove_dir_all(&private);
        Ok(Self { listener: made.map_err(cannot("listen on"))?, path, owner })
    }

    /// The next connection of root, or of whoever runs the agent.
    pub(crate) async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            match stream.peer_cred() {
                Ok(peer) if peer.uid() == 0 || peer.uid() == self.owner => return Ok(stream),
                Ok(peer) => tracing::warn!(uid = peer.uid(), "refused at the socket"),
                Err(error) => tracing::debug!(%error, "gone again"),
            }
        }
    }
}

/// Who has the directory; none when others may write there.
fn owner(run_dir: &Path) -> io::Result<Option<u32>> {
    fs::create_dir_all(run_dir)?;
    let about = fs::metadata(run_dir)?;
    Ok((about.mode() & OPEN == 0).then(|| about.uid()))
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
