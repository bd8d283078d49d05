//! How full tables of the kernel and of processes are, by /proc. What of it there is none of is left out: in another
//! network namespace than the first the kernel shows no neighbour tables.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::observed::Fill;

/// A table of neighbours, which all network namespaces share.
struct Neighbours {
    /// Below /proc.
    table: &'static str,
    most: &'static str,
    object: &'static str,
    remedy: &'static str,
}

/// By family: IPv4, IPv6.
const NEIGHBOURS: [Neighbours; 2] = [
    Neighbours {
        table: "net/stat/arp_cache",
        most: "sys/net/ipv4/neigh/default/gc_thresh3",
        object: "net.ipv4.neigh.default.gc_thresh3",
        remedy: "sysctl -w net.ipv4.neigh.default.gc_thresh3=… and gc_thresh2, with four times the number of containers and nodes",
    },
    Neighbours {
        table: "net/stat/ndisc_cache",
        most: "sys/net/ipv6/neigh/default/gc_thresh3",
        object: "net.ipv6.neigh.default.gc_thresh3",
        remedy: "sysctl -w net.ipv6.neigh.default.gc_thresh3=… and gc_thresh2, with eight times the number of containers and nodes: each has two addresses",
    },
];

/// All that can be seen below `proc`. `agent` is the process of the agent, `lasting` the neighbours of either family that
/// were put there for good: they do not count.
pub(super) fn fills(proc: &Path, agent: Option<u32>, lasting: [u64; 2]) -> Vec<Fill> {
    let mut fills: Vec<Fill> = conntrack(proc).into_iter().collect();
    fills.extend(
        NEIGHBOURS.iter().zip(lasting).filter_map(|(table, lasting)| neighbours(proc, table, lasting)),
    );
    fills.extend(inotify(proc));
    fills.extend(agent.and_then(|pid| open_files(&proc.join(pid.to_string()))));
    fills
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.split_whitespace().next()?.parse().ok()
}

fn conntrack(proc: &Path) -> Option<Fill> {
    let end = |end: &str| number(&proc.join(format!("sys/net/netfilter/nf_conntrack_{end}")));
    Some(Fill {
        object: "net.netfilter.nf_conntrack_max",
        used: end("count")?,
        most: end("max")?,
        then: "new connections are dropped",
        remedy: "sysctl -w net.netfilter.nf_conntrack_max=… with twice the number",
    })
}

fn neighbours(proc: &Path, table: &Neighbours, lasting: u64) -> Option<Fill> {
    // A line for each processor, which all begin with the entries of the table.
    let text = fs::read_to_string(proc.join(table.table)).ok()?;
    let entries = u64::from_str_radix(text.lines().nth(1)?.split_whitespace().next()?, 16).ok()?;
    Some(Fill {
        object: table.object,
        used: entries.saturating_sub(lasting),
        most: number(&proc.join(table.most))?,
        then: "addresses of containers and of other hosts are not found",
        remedy: table.remedy,
    })
}

/// What processes of this user have of inotify: the agent follows the journal by it, runtimes their configurations.
fn inotify(proc: &Path) -> Vec<Fill> {
    let most = |what: &str| number(&proc.join(format!("sys/fs/inotify/max_user_{what}")));
    let (Some(instances), Some(watches)) = (most("instances"), most("watches")) else { return Vec::new() };
    let (open, watched) = opened(proc);
    let then = "the agent finds what runtimes did not tell it of only after half a minute, and other programs do not start";
    let instances = Fill {
        object: "fs.inotify.max_user_instances",
        used: open,
        most: instances,
        then,
        remedy: "sysctl -w fs.inotify.max_user_instances=… with four times the number; a file in /etc/sysctl.d keeps it",
    };
    let watches = Fill {
        object: "fs.inotify.max_user_watches",
        used: watched,
        most: watches,
        then,
        remedy: "sysctl -w fs.inotify.max_user_watches=… with four times the number; a file in /etc/sysctl.d keeps it",
    };
    vec![instances, watches]
}

/// Instances and watches of this user.
fn opened(proc: &Path) -> (u64, u64) {
    let owner = |path: &Path| fs::metadata(path).map(|about| about.uid()).ok();
    let own = owner(&proc.join("self"));
    let processes = fs::read_dir(proc).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_number =
        |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit());
    let (mut instances, mut watches) = (0, 0);
    for process in processes.filter(|path| is_number(path) && owner(path) == own) {
        for file in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            if fs::read_link(file.path()).is_ok_and(|end| end == Path::new("anon_inode:inotify")) {
                let about = fs::read_to_string(process.join("fdinfo").join(file.file_name()));
                instances += 1;
                watches += about.map_or(0, |about| about.matches("inotify wd:").count() as u64);
            }
        }
    }
    (instances, watches)
}

fn open_files(process: &Path) -> Option<Fill> {
    Some(Fill {
        object: "the agent's open files",
        used: fs::read_dir(process.join("fd")).ok()?.count() as u64,
        most: soft_limit(&fs::read_to_string(process.join("limits")).ok()?)?,
        then: "containers get no resolver",
        remedy: "raise LimitNOFILE= of its unit",
    })
}

/// The soft limit in `/proc/PID/limits`.
fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::checks::tests::{healthy, told};
    use super::*;

    const LIMITS: &str = "Limit  Soft Limit  Hard Limit  Units\nMax open files            4                    4096                 files\n";

    /// A /proc in which all is well: of each limit a quarter is used.
    struct Proc(tempfile::TempDir);

    impl Proc {
        fn new() -> Self {
            let proc = Self(tempfile::tempdir().unwrap());
            proc.has("sys/net/netfilter/nf_conntrack_count", "1");
            proc.has("sys/net/netfilter/nf_conntrack_max", "4");
            for (family, table) in [("ipv4", "arp"), ("ipv6", "ndisc")] {
                proc.has(&format!("sys/net/{family}/neigh/default/gc_thresh3"), "1024");
                proc.has(
                    &format!("net/stat/{table}_cache"),
                    "entries  allocs\n00000100 00000fff\n00000100 00000001\n",
                );
            }
            proc.has("sys/fs/inotify/max_user_instances", "4");
            proc.has("sys/fs/inotify/max_user_watches", "8");
            proc.has("self/limits", "");
            proc.has("7/limits", LIMITS);
            proc.has_inotify("7/fd/3", 2);
            proc
        }

        fn has(&self, file: &str, text: &str) {
            let path = self.0.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn has_inotify(&self, file: &str, watches: usize) {
            let path = self.0.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink("anon_inode:inotify", path).unwrap();
            let line = |watch: usize| format!("inotify wd:{watch} ino:1 sdev:1 mask:2\n");
            let lines: String = (1..=watches).map(line).collect();
            self.has(&file.replace("/fd/", "/fdinfo/"), &format!("pos:\t0\nflags:\t00\n{lines}"));
        }

        /// What the doctor says.
        fn told(&self, lasting: [u64; 2]) -> Vec<String> {
            let mut observed = healthy();
            observed.fills = fills(self.0.path(), Some(7), lasting);
            assert_eq!(observed.fills.len(), 6);
            told(&observed, "limit")
        }

        fn ensure_told(&self, words: &str) {
            let told = self.told([0, 0]);
            assert!(told.len() == 1 && told[0].starts_with(words), "{told:?}");
        }
    }

    #[test]
    fn each_limit_is_told_when_it_is_nearly_reached_and_not_before() {
        let check = |change: fn(&Proc), words: &str| {
            let proc = Proc::new();
            assert_eq!(proc.told([0, 0]), [""; 0]);
            change(&proc);
            proc.ensure_told(words);
        };
        check(
            |proc| proc.has("sys/net/netfilter/nf_conntrack_count", "4"),
            "net.netfilter.nf_conntrack_max: 4 of 4 are used",
        );
        check(
            |proc| proc.has("net/stat/arp_cache", "entries\n000003f0 0\n"),
            "net.ipv4.neigh.default.gc_thresh3: 1008 of 1024 are used",
        );
        check(
            |proc| proc.has("net/stat/ndisc_cache", "entries\n000003f0 0\n"),
            "net.ipv6.neigh.default.gc_thresh3: 1008 of 1024 are used",
        );
        check(
            |proc| (4..7).for_each(|number| proc.has_inotify(&format!("{number}/fd/1"), 0)),
            "fs.inotify.max_user_instances: 4 of 4 are used",
        );
        check(|proc| proc.has_inotify("8/fd/9", 6), "fs.inotify.max_user_watches: 8 of 8 are used");
        check(
            |proc| (4..7).for_each(|number| proc.has(&format!("7/fd/{number}"), "")),
            "the agent's open files: 4 of 4 are used",
        );
    }

    #[test]
    fn neighbours_that_are_there_for_good_do_not_count() {
        let proc = Proc::new();
        proc.has("net/stat/ndisc_cache", "entries\n000003f0 0\n");
        assert_eq!(proc.told([0, 1000]), [""; 0]);
    }

    #[test]
    fn where_there_is_nothing_to_see_nothing_is_said() {
        assert!(fills(tempfile::tempdir().unwrap().path(), Some(7), [0, 0]).is_empty());
    }

    #[test]
    fn the_limit_of_open_files_is_the_soft_one() {
        assert_eq!(soft_limit(LIMITS), Some(4));
    }
}
