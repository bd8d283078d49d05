//! TAP devices: made by an ioctl on /dev/net/tun, in the namespace of the calling thread.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsFd;

use zeugma_plan::Tap;

use crate::{Error, sys};

/// Makes a TAP device that stays when its file is closed.
///
/// # Errors
/// The kernel's, and that /dev/net/tun or SELinux is missing.
pub(crate) fn create(tap: &Tap) -> Result<(), Error> {
    let cannot = |source| Error::System { action: "make the TAP device by /dev/net/tun", source };
    let _labelled = tap.selinux_context.as_deref().map(Label::set).transpose()?;
    let tun = OpenOptions::new().read(true).write(true).open("/dev/net/tun").map_err(cannot)?;
    sys::tap(tun.as_fd(), tap).map_err(|source| match source.raw_os_error() {
        // The ioctl opens what is there under the name; a link of another kind makes it fail.
        Some(libc::EBUSY | libc::EINVAL | libc::EEXIST) => cannot(io::Error::from_raw_os_error(libc::EEXIST)),
        _ => cannot(source),
    })
}

/// The label for sockets that this thread makes, until it is dropped.
struct Label;

const LABEL: &str = "/proc/thread-self/attr/sockcreate";

impl Label {
    fn set(context: &str) -> Result<Self, Error> {
        fs::write(LABEL, context)
            .map_err(|source| Error::System { action: "set the SELinux label of new sockets", source })?;
        Ok(Self)
    }
}

impl Drop for Label {
    fn drop(&mut self) {
        // An empty write resets; a failure leaves a label on a process that ends in a moment.
        let _ = fs::write(LABEL, "");
    }
}
