//! What came over the machine's second serial port, judged: the runner's own output, and the lines of
//! tests/vm/src/init.rs between it.
//!
//! Pure. A test that did not run is a failure here, whatever the reason.

/// The runs that were asked for, and what became of them so far.
#[derive(Debug)]
pub(super) struct Report {
    runs: Vec<Run>,
    /// Index of the run that is under way.
    current: Option<usize>,
    is_filtered: bool,
    /// Whether what comes is the output of tests that passed.
    tells_successes: bool,
    is_done: bool,
    faults: Vec<String>,
}

#[derive(Debug)]
struct Run {
    name: String,
    /// The runner's result line.
    result: Option<String>,
    /// How its process ended.
    ended: Option<String>,
}

impl Report {
    /// Of test binaries, in any order. With a filter, one of them may have nothing to do.
    pub(super) fn of(names: &[&str], is_filtered: bool) -> Report {
        let run = |name: &&str| Run { name: (*name).to_owned(), result: None, ended: None };
        Report {
            runs: names.iter().map(run).collect(),
            current: None,
            is_filtered,
            tells_successes: false,
            is_done: false,
            faults: Vec::new(),
        }
    }

    /// Takes a line; returns what of it is worth showing.
    pub(super) fn take(&mut self, line: &str) -> Option<String> {
        if let Some(said) = line.strip_prefix("vm: ") {
            return self.take_mark(said);
        }
        if line.starts_with("test result:") {
            self.take_result(line);
        }
        if line.contains("SKIPPED") {
            self.fault(format!("a test stood aside: {}", line.trim()));
        }
        match line {
            "successes:" => self.tells_successes = true,
            "failures:" => self.tells_successes = false,
            _ => self.tells_successes &= !line.starts_with("test result:"),
        }
        (!self.tells_successes && !line.is_empty()).then(|| line.to_owned())
    }

    fn take_mark(&mut self, said: &str) -> Option<String> {
        let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
        match word {
            "running" => {
                self.current = self.runs.iter().position(|run| run.name == rest);
                return Some(format!("\n     Running {rest} (in the virtual machine)"));
            }
            "ended" => {
                let how = rest.split_once(": ").map_or(rest, |(_, how)| how).to_owned();
                if let Some(run) = self.current.take() {
                    self.runs[run].ended = Some(how);
                }
            }
            "fault:" => self.faults.push(rest.to_owned()),
            "done" => self.is_done = true,
            _ => return Some(said.to_owned()),
        }
        None
    }

    fn take_result(&mut self, line: &str) {
        let count = |word| crate::test::count(line, word).unwrap_or_default();
        if count("ignored") > 0 {
            self.fault("it ignores tests, and nothing may stand aside here".to_owned());
        }
        if count("passed") + count("failed") == 0 && !self.is_filtered {
            self.fault("it has no tests".to_owned());
        }
        if let Some(run) = self.current {
            self.runs[run].result = Some(line.to_owned());
        }
    }

    fn fault(&mut self, what: String) {
        let whose = self.current.map_or("", |run| self.runs[run].name.as_str());
        self.faults.push(format!("{whose}: {what}"));
    }

    /// Whether the machine said that all is done.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// The result lines, and everything that makes this a failure.
    pub(super) fn end(mut self) -> (Vec<String>, Vec<String>) {
        self.faults.extend(self.runs.iter().filter_map(Run::fault));
        if !self.is_done {
            self.faults.push("it did not come to its end".to_owned());
        }
        (self.runs.into_iter().filter_map(|run| run.result).collect(), self.faults)
    }
}

impl Run {
    fn fault(&self) -> Option<String> {
        let name = &self.name;
        match (&self.ended, &self.result) {
            (None, _) => Some(format!("{name}: did not run to its end")),
            (Some(how), _) if how != "exit 0" => Some(format!("{name}: {how}")),
            (Some(_), None) => Some(format!("{name}: told no result")),
            (Some(_), Some(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSED: &str = "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
    const FAILED: &str = "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
    const IGNORED: &str = "test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";
    const NOTHING: &str = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out";

    /// Of the runs `a` and `b`: how many results, and the faults.
    fn check(lines: &[&str], results: usize, faults: &[&str]) {
        let mut report = Report::of(&["a", "b"], false);
        lines.iter().for_each(|line| drop(report.take(line)));
        let found = report.end();
        assert_eq!(found.0.len(), results, "{found:?}");
        assert_eq!(found.1, faults);
    }

    fn run_of<'a>(marks: [&'a str; 2], line: &'a str) -> [&'a str; 3] {
        [marks[0], line, marks[1]]
    }

    const A: [&str; 2] = ["vm: running a", "vm: ended a: exit 0"];
    const B: [&str; 2] = ["vm: running b", "vm: ended b: exit 0"];

    #[test]
    fn all_that_ran_and_passed_is_no_fault() {
        let lines = [&run_of(A, PASSED)[..], &["test x ... ok"], &run_of(B, PASSED), &["vm: done"]].concat();
        check(&lines, 2, &[]);
    }

    #[test]
    fn a_failed_test_is_a_fault_and_counts() {
        let failing = ["vm: running b", FAILED, "vm: ended b: exit 101", "vm: done"];
        check(&[&run_of(A, PASSED)[..], &failing].concat(), 2, &["b: exit 101"]);
    }

    #[test]
    fn a_run_that_died_or_never_began_is_a_fault() {
        let died = ["vm: running a", "test x ... ", "vm: ended a: killed by SIGSEGV", "vm: done"];
        check(&died, 0, &["a: killed by SIGSEGV", "b: did not run to its end"]);
        let quiet = [&run_of(A, "")[..], &run_of(B, PASSED), &["vm: done"]].concat();
        check(&quiet, 1, &["a: told no result"]);
    }

    #[test]
    fn a_machine_that_stops_in_the_middle_is_a_fault() {
        let lines = [&run_of(A, PASSED)[..], &["vm: running b", "test x ... ok"]].concat();
        check(&lines, 1, &["b: did not run to its end", "it did not come to its end"]);
        check(
            &[],
            0,
            &["a: did not run to its end", "b: did not run to its end", "it did not come to its end"],
        );
    }

    #[test]
    fn nothing_stands_aside() {
        let lines = [&run_of(A, IGNORED)[..], &run_of(B, NOTHING), &["vm: done"]].concat();
        let faults = ["a: it ignores tests, and nothing may stand aside here", "b: it has no tests"];
        check(&lines, 2, &faults);
        let skipped = [A[0], "SKIPPED: no firewalld", PASSED, A[1], B[0], PASSED, B[1], "vm: done"];
        check(&skipped, 2, &["a: a test stood aside: SKIPPED: no firewalld"]);
    }

    #[test]
    fn what_passing_tests_print_is_not_shown() {
        let mut report = Report::of(&["a"], false);
        let lines = ["test x ... ok", "", "successes:", "successes:", "    x", "", PASSED];
        let shown: Vec<_> = lines.iter().filter_map(|line| report.take(line)).collect();
        assert_eq!(shown, ["test x ... ok", PASSED]);
    }

    #[test]
    fn a_filter_may_leave_a_run_without_tests() {
        let mut report = Report::of(&["a"], true);
        run_of(A, NOTHING).iter().chain(&["vm: done"]).for_each(|line| drop(report.take(line)));
        assert_eq!(report.end().1, [""; 0]);
    }

    #[test]
    fn what_the_first_process_reports_is_a_fault() {
        let lines = ["vm: fault: load /modules/100-vrf.ko: ENOEXEC"];
        let mut report = Report::of(&[], false);
        lines.iter().for_each(|line| drop(report.take(line)));
        assert_eq!(report.end().1[0], "load /modules/100-vrf.ko: ENOEXEC");
    }
}
