//! The namespace of a container, as records name it and as it is found again.
//!
//! A path can lead to another namespace later, and the kernel gives inode numbers again at once. The cookie of a
//! namespace is never given twice in one boot.

use std::path::Path;

use zeugma_journal::{NetnsRef, Record};
use zeugma_kernel::Kernel;

/// What a record says of the container's namespace.
pub(crate) fn noted(kernel: &mut Kernel, path: Option<&Path>) -> Option<NetnsRef> {
    let netns = NetnsRef::of(path?)?;
    Some(NetnsRef { cookie: kernel.container_cookie().ok().flatten(), ..netns })
}

/// The namespace that a record is of: by the runtime's path, which may be another than then, or by the record's.
/// None when it is gone.
pub(crate) fn found(record: &Record, named: Option<&Path>) -> Option<Kernel> {
    let known = record.netns.as_ref();
    let places = [named, known.map(|netns| netns.path.as_path())];
    places.into_iter().flatten().find_map(|path| {
        let now = NetnsRef::of(path)?;
        let is_known = known.is_none_or(|then| (then.device, then.inode) == (now.device, now.inode));
        let mut kernel = is_known.then(|| Kernel::with_container(path).ok())??;
        let cookie = known.and_then(|then| then.cookie);
        let is_same = cookie.is_none() || kernel.container_cookie().ok().flatten() == cookie;
        is_same.then_some(kernel)
    })
}
