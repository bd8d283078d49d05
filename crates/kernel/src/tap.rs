//! TAP devices: made by an ioctl on /dev/net/tun, in the namespace of the calling thread.
//!
//! A device has the SELinux label of the process that makes it, whatever `attr/sockcreate` says
//! (`selinux_tun_dev_create`). One with another label is therefore made by this executable run again under
//! that label: [`MAKE_TAP`].

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::process::Command;

use zeugma_plan::Tap;

use crate::{Error, sys};

/// The first word of the command line that [`make_tap`] has the rest of.
pub const MAKE_TAP: &str = "--make-tap";

const TUN: &str = "/dev/net/tun";

/// Whether the kernel says that it has TAP devices.
pub fn can_make_taps() -> bool {
    fs::exists(TUN).unwrap_or(false)
}

/// Makes a TAP device that stays when its file is closed.
///
/// # Errors
/// The kernel's, `EEXIST` when the name is taken, and that /dev/net/tun or SELinux is missing.
pub(crate) fn create(tap: &Tap) -> Result<(), Error> {
    let cannot = |source| Error::System { action: "make the TAP device by /dev/net/tun", source };
    match &tap.selinux_context {
        Some(context) => labelled(tap, context),
        None => unlabelled(tap).map_err(cannot),
    }
}

fn unlabelled(tap: &Tap) -> io::Result<()> {
    let tun = OpenOptions::new().read(true).write(true).open(TUN)?;
    sys::tap(tun.as_fd(), tap).map_err(|source| match source.raw_os_error() {
        // A TAP device of the name makes it busy. A link of another kind would be invalid, as much else is.
        Some(libc::EBUSY | libc::EEXIST) => io::Error::from_raw_os_error(libc::EEXIST),
        _ => source,
    })
}

fn labelled(tap: &Tap, context: &str) -> Result<(), Error> {
    let _label = Label::set(context)?;
    let cannot = |source| Error::System { action: "make the TAP device under another SELinux label", source };
    let status = Command::new("/proc/self/exe").arg(MAKE_TAP).args(words(tap)).status().map_err(cannot)?;
    match status.code() {
        Some(0) => Ok(()),
        Some(errno) => Err(cannot(io::Error::from_raw_os_error(errno))),
        None => Err(cannot(io::Error::from_raw_os_error(libc::EINTR))),
    }
}

/// Name, user, group, queues; `-` for none.
fn words(tap: &Tap) -> [String; 4] {
    let number = |id: Option<u32>| id.map_or_else(|| "-".into(), |id| id.to_string());
    let queues = if tap.multi_queue { "multi" } else { "-" };
    [tap.name.to_string(), number(tap.owner), number(tap.group), queues.into()]
}

fn parsed(words: &[&str]) -> Option<Tap> {
    let [name, owner, group, queues] = *words else { return None };
    let number = |word: &str| if word == "-" { Some(None) } else { word.parse().ok().map(Some) };
    Some(Tap {
        name: name.parse().ok()?,
        multi_queue: queues == "multi",
        owner: number(owner)?,
        group: number(group)?,
        selinux_context: None,
    })
}

/// Makes the device that a command line describes, in the namespace and under the label of this process. Returns
/// the exit status: the errno.
pub fn make_tap(words: &[&str]) -> u8 {
    let made =
        parsed(words).map_or_else(|| Err(io::Error::from_raw_os_error(libc::EINVAL)), |tap| unlabelled(&tap));
    let errno = made.err().map(|error| error.raw_os_error().unwrap_or(libc::EIO));
    errno.map_or(0, |errno| u8::try_from(errno).unwrap_or(u8::MAX))
}

/// The label for what this thread executes, until it is dropped.
struct Label;

const LABEL: &str = "/proc/thread-self/attr/exec";

impl Label {
    fn set(context: &str) -> Result<Self, Error> {
        let action = "set the SELinux label of the TAP device (does this host have SELinux?)";
        fs::write(LABEL, context).map_err(|source| Error::System { action, source })?;
        Ok(Self)
    }
}

impl Drop for Label {
    fn drop(&mut self) {
        // An empty write resets; a failure leaves a label on a process that ends in a moment.
        let _ = fs::write(LABEL, "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_says_the_same_device() {
        let plain = Tap {
            name: "tap0".parse().unwrap(),
            multi_queue: false,
            owner: None,
            group: Some(107),
            selinux_context: None,
        };
        for tap in [Tap { multi_queue: true, owner: Some(0), ..plain.clone() }, plain] {
            let words = words(&tap);
            assert_eq!(parsed(&words.each_ref().map(String::as_str)), Some(tap));
        }
        assert_eq!(parsed(&["tap0", "-", "nobody", "-"]), None);
    }
}
