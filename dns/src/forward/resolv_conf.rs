//! resolv.conf(5), read as glibc reads it: what is not understood is skipped. Pure.

use std::net::IpAddr;

/// glibc's MAXNS.
const SERVERS: usize = 3;
/// glibc's limit for `ndots`.
const MOST_DOTS: u8 = 15;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// The servers, three at most.
    pub servers: Vec<NameServer>,
    /// Domains that are appended to names; the last `search` or `domain` line counts.
    pub search: Vec<String>,
    /// Dots that a name has when it is first asked as it is; 1 unless the file says otherwise.
    pub dots: Option<u8>,
}

/// A server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameServer {
    /// Its IP address; the port is 53.
    pub address: IpAddr,
    /// The interface of a link-local address, by name or number.
    pub scope: Option<String>,
}

impl ResolvConf {
    /// Reads the file's content, whatever it is.
    pub fn parse(text: &[u8]) -> Self {
        let mut read = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            read.take_line(&String::from_utf8_lossy(line));
        }
        read
    }

    fn take_line(&mut self, line: &str) {
        // A comment is a line of its own; glibc lets one follow a nameserver's address, too.
        if line.starts_with(['#', ';']) {
            return;
        }
        let mut words = line.split(|c: char| c.is_ascii_whitespace()).filter(|word| !word.is_empty());
        match words.next() {
            Some("nameserver") if self.servers.len() < SERVERS => {
                self.servers.extend(words.next().and_then(NameServer::parse));
            }
            Some("search" | "domain") => self.search = words.map(str::to_owned).collect(),
            Some("options") => {
                let dots =
                    words.filter_map(|word| word.strip_prefix("ndots:")?.parse::<u8>().ok()).next_back();
                self.dots = dots.map(|dots| dots.min(MOST_DOTS)).or(self.dots);
            }
            _ => {}
        }
    }
}

impl NameServer {
    fn parse(text: &str) -> Option<Self> {
        let text = text.split(['#', ';']).next()?;
        let (address, scope) = match text.split_once('%') {
            Some((address, scope)) => (address, Some(scope.to_owned())),
            None => (text, None),
        };
        let scope = scope.filter(|scope| !scope.is_empty() && !scope.contains('/'));
        Some(Self { address: address.parse().ok()?, scope })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_understood_is_taken_and_the_rest_skipped() {
        let text = b"# a comment\n; another\nnameserver 192.0.2.1\nnameserver\tfe80::1%eth0 # there\n\
            nameserver nonsense\nsearch a.example\ndomain b.example c.example\noptions ndots:99 edns0\r\n\
            \xff\xfe\nsortlist 1.2.3.4\noptions rotate\nnameserver 2001:db8::1\nnameserver 192.0.2.4\n";
        let read = ResolvConf::parse(text);
        let servers: Vec<_> =
            read.servers.iter().map(|s| (s.address.to_string(), s.scope.as_deref())).collect();
        let expected = [("192.0.2.1", None), ("fe80::1", Some("eth0")), ("2001:db8::1", None)];
        assert_eq!(servers, expected.map(|(address, scope)| (address.to_owned(), scope)));
        assert_eq!(read.search, ["b.example", "c.example"]);
        assert_eq!(read.dots, Some(15));
    }

    #[test]
    fn an_empty_file_says_nothing() {
        assert_eq!(ResolvConf::parse(b""), ResolvConf::default());
    }
}
