//! The one image all containers run: a busybox, made from the one that is installed. No
//! registry is asked.

use std::sync::OnceLock;

use anyhow::Result;

use crate::Node;

/// What the image is called in every runtime.
pub const IMAGE: &str = "localhost/busybox:1";

/// Where `load` puts the archive on the node.
pub(crate) const ARCHIVE: &str = "/run/node/image.tar";

const DOCKERFILE: &str = r#"FROM scratch
COPY busybox /bin/busybox
ENV PATH=/bin
RUN ["/bin/busybox", "--install", "-s", "/bin"]
CMD ["sleep", "1000000"]
"#;

/// The command of a container that says `content` to everyone who connects to port 80.
pub fn serve(content: &str) -> Vec<String> {
    ["nc", "-ll", "-p", "80", "-e", "echo", content].map(str::to_owned).to_vec()
}

/// Puts the image's archive on the node; it is built on the first node that asks.
pub(crate) fn put(node: &Node) -> Result<()> {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    match BUILT.get() {
        Some(archive) => node.write(ARCHIVE, archive),
        None => {
            build(node)?;
            BUILT.get_or_init(|| std::fs::read(node.path(ARCHIVE)).unwrap_or_default());
            Ok(())
        }
    }
}

fn build(node: &Node) -> Result<()> {
    node.command(&["mkdir", "/run/node/image"])?;
    node.write("/run/node/image/Dockerfile", DOCKERFILE)?;
    node.command(&["sh", "-c", "cp \"$(command -v busybox)\" /run/node/image/busybox"])?;
    let buildah = ["buildah", "--root=/run/node/buildah", "--runroot=/run/node/buildah-run"];
    let image = ["bud", "--quiet", "--isolation=chroot", "--tag", IMAGE, "/run/node/image"];
    node.command(&[&buildah[..], &image[..]].concat())?;
    let archive = format!("docker-archive:{ARCHIVE}:{IMAGE}");
    node.command(&[&buildah[..], &["push", "--quiet", IMAGE, &archive][..]].concat())?;
    Ok(())
}
