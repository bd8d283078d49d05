//! resolv.conf(5), read as the reference does.

use zeugma_protocol::Dns;

/// `nameserver`, `search` and `options` add up, the last `domain` counts; comments and unknown words are skipped.
pub(crate) fn parse_resolv_conf(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace();
        let keyword = words.next();
        let mut values = words.map(str::to_string).peekable();
        if values.peek().is_none() {
            continue;
        }
        match keyword {
            Some("nameserver") => dns.nameservers.extend(values.next()),
            Some("domain") => dns.domain = values.next(),
            Some("search") => dns.search.extend(values),
            Some("options") => dns.options.extend(values),
            Some(_) | None => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_keyword_is_read_and_the_rest_skipped() {
        let dns = parse_resolv_conf(
            "# c\n; c\n\nnameserver 192.0.2.0 x\n nameserver 192.0.2.1\ndomain a.b\ndomain example.net\n\
             search a\nsearch example.net example.org\noptions four\noptions two three\nsortlist x\nsearch\n",
        );
        assert_eq!(dns.nameservers, ["192.0.2.0", "192.0.2.1"]);
        assert_eq!(dns.domain.as_deref(), Some("example.net"));
        assert_eq!(dns.search, ["a", "example.net", "example.org"]);
        assert_eq!(dns.options, ["four", "two", "three"]);
    }
}
