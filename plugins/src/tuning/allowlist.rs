//! Which sysctls the host's administrator allows: `/etc/cni/tuning/allowlist.conf`, a regular expression a line.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use regex_lite::Regex;

use super::Error;

/// The reference's file.
const FILE: &str = "/etc/cni/tuning/allowlist.conf";

/// Without the file all are allowed.
pub(super) fn check(sysctls: &BTreeMap<String, String>) -> Result<(), Error> {
    if sysctls.is_empty() {
        return Ok(());
    }
    let text = match fs::read_to_string(FILE) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::Allowlist { file: FILE, source }),
    };
    match sysctls.keys().find(|path| !is_allowed(&text, path)) {
        Some(path) => Err(Error::NotAllowed { path: path.clone(), file: FILE }),
        None => Ok(()),
    }
}

/// A line that is no regular expression allows nothing. Names are compared as sysctl(8) writes them, and as files.
fn is_allowed(text: &str, path: &str) -> bool {
    let dotted = path.replace('/', ".");
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .filter_map(|line| Regex::new(line).ok())
        .any(|allowed| allowed.is_match(&dotted) || allowed.is_match(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_allow_what_they_match() {
        let text = "^net\\.ipv4\\.conf\\.[a-z0-9]+\\.arp_filter$\n(\n\n^net/core/";
        assert!(is_allowed(text, "net/ipv4/conf/eth0/arp_filter"));
        assert!(is_allowed(text, "net/core/somaxconn"));
        assert!(!is_allowed(text, "net/ipv4/ip_forward"));
    }
}
