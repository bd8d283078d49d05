//! Master files: RFC 1035, section 5. hickory reads them; here is what it does not say: which line is wrong. Pure.

use std::collections::BTreeMap;

use hickory_proto::rr::{DNSClass, LowerName, Name, RecordSet, RecordType, RrKey};
use hickory_proto::serialize::txt::Parser;

/// Records of one zone: the file is read again as a whole whenever it changes.
pub(super) const RECORDS: usize = 10_000;

/// Records by owner and type.
pub(super) type Records = BTreeMap<RrKey, RecordSet>;

/// Where an entry that is wrong begins, from 1, and what is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: usize,
    pub(super) reason: String,
}

/// One entry: it may have several lines.
#[derive(Debug, Clone, Copy)]
struct Entry {
    line: usize,
    begin: usize,
    end: usize,
}

/// Reads the whole file, of so many records at most.
pub(super) fn parse(text: &str, origin: &Name, limit: usize) -> Result<Records, Wrong> {
    let entries = entries(text);
    let includes = |entry: &&Entry| is_include(&text[entry.begin..entry.end]);
    if let Some(entry) = entries.iter().find(includes) {
        let reason = "$INCLUDE is not served: write the records into this file".to_owned();
        return Err(Wrong { line: entry.line, reason });
    }
    check(text, origin, limit).map_err(|whole| {
        // What is wrong stays wrong, whatever follows: the first prefix that ends in it is found by halving.
        let at = entries.partition_point(|entry| check(&text[..entry.end], origin, limit).is_ok());
        let entry = entries.get(at).or(entries.last());
        let reason = entry.and_then(|entry| check(&text[..entry.end], origin, limit).err()).unwrap_or(whole);
        Wrong { line: entry.map_or(1, |entry| entry.line), reason }
    })
}

/// Reads what may be only the beginning.
fn check(text: &str, origin: &Name, limit: usize) -> Result<Records, String> {
    let parsed = Parser::new(text, None, Some(origin.clone())).parse();
    let (_, records) = parsed.map_err(|error| format!("{error}; correct the line"))?;
    let count: usize = records.values().map(|set| set.records_without_rrsigs().count()).sum();
    if count > limit {
        return Err(format!("more than {limit} records: leave some out, or forward to a name server"));
    }
    records.iter().try_for_each(|(key, set)| place(key, set, &records, origin))?;
    Ok(records)
}

/// Whether records may stand where they do.
fn place(key: &RrKey, set: &RecordSet, records: &Records, origin: &Name) -> Result<(), String> {
    let (name, kind) = (&key.name, key.record_type);
    if !LowerName::from(origin).zone_of(name) {
        return Err(format!("{name} is not in the zone {origin}: end names of the zone without a dot"));
    }
    if set.records_without_rrsigs().any(|record| record.dns_class != DNSClass::IN) {
        return Err(format!("{name} {kind}: only the class IN is served"));
    }
    if kind == RecordType::SOA && **name != *origin {
        return Err(format!("the SOA record's owner is {name}: write @ for {origin}"));
    }
    let others = RrKey::new(name.clone(), RecordType::Unknown(0))..;
    let mut others = records.range(others).take_while(|(other, _)| other.name == *name);
    if kind == RecordType::CNAME && others.any(|(other, _)| other.record_type != kind) {
        return Err(format!("{name} has a CNAME record and others: leave out one or the other"));
    }
    Ok(())
}

/// The entries, in order. Line ends within parentheses and quotes end none.
fn entries(text: &str) -> Vec<Entry> {
    let (mut entries, mut depth, mut line) = (Vec::new(), 0_usize, 1);
    let (mut quoted, mut comment, mut escaped) = (false, false, false);
    let mut entry = Entry { line, begin: 0, end: 0 };
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\n' => {
                line += 1;
                comment = false;
                if depth == 0 && !quoted {
                    entries.push(Entry { end: at + 1, ..entry });
                    entry = Entry { line, begin: at + 1, end: 0 };
                }
            }
            _ if comment || escaped => {}
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b';' => comment = true,
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        escaped = byte == b'\\' && !escaped && !comment;
    }
    entries.push(Entry { end: text.len(), ..entry });
    entries
}

fn is_include(entry: &str) -> bool {
    entry.trim_start().get(..8).is_some_and(|word| word.eq_ignore_ascii_case("$INCLUDE"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 60;
    const HEAD: &str = "$TTL 60\n@ SOA ns admin (\n 1 60 ; serial\n 60 60 60 )\n";

    fn parsed(rest: &str) -> Result<Records, Wrong> {
        parse(&format!("{HEAD}{rest}"), &Name::from_ascii("corp.example.").unwrap(), LIMIT)
    }

    #[track_caller]
    fn check_wrong(rest: &str, line: usize, reason: &str) {
        let wrong = parsed(rest).unwrap_err();
        assert!(wrong.line == line && wrong.reason.contains(reason), "{wrong:?}");
    }

    #[test]
    fn the_line_that_is_wrong_is_named() {
        check_wrong("www A 192.0.2.1\nmail A 192.0.2.300\nx A 192.0.2.1\n", 6, "correct the line");
        check_wrong("www A 192.0.2.1\n\n; comment (\nftp NONSENSE 1\n", 8, "NONSENSE");
        check_wrong("a TXT \"; (\"\nb TXT \"more\n\"\nc A (192.0.2.1\n", 8, "");
        check_wrong("www.other.example. A 192.0.2.1", 5, "is not in the zone corp.example.");
        check_wrong("www A 192.0.2.1\nwww CNAME ns\n", 6, "has a CNAME record and others");
        check_wrong("sub SOA ns admin 1 60 60 60 60\n", 5, "write @ for corp.example.");
        check_wrong("a A 192.0.2.1\n$include /etc/passwd\n", 6, "$INCLUDE is not served");
        check_wrong("a CH TXT \"b\"\n", 5, "only the class IN");
    }

    #[test]
    fn there_is_a_limit_of_records() {
        let many = |count: usize| (0..count).map(|n| format!("n{n} A 192.0.2.1\n")).collect::<String>();
        assert_eq!(parsed(&many(LIMIT - 1)).unwrap().len(), LIMIT);
        check_wrong(&many(LIMIT), LIMIT + 4, "more than 60 records");
    }

    proptest! {
        /// What stands in the file is never the process's end.
        #[test]
        fn any_text_is_read_or_refused(rest in r#"([a-z@*$\\"(); \n\t0-9.é-]|A |MX |TXT |SRV |CAA |SVCB |TTL|ORIGIN){0,60}"#) {
            let _ = parsed(&rest);
        }
    }
}
