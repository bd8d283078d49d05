//! `--dry-run`: a person's view of an ADD.

use zeugma_skel::{Env, rehearse};

use crate::plugin::{Noting, conf, env};

#[test]
fn a_dry_run_needs_no_environment() {
    let plugin = Noting::default();
    let response = rehearse(&Env::default(), conf("1.0.0").as_bytes(), &plugin);
    assert_eq!((response.stdout.as_slice(), response.exit), (&b"attach net/example/eth0\n"[..], 0));
    assert_eq!(*plugin.calls.borrow(), ["dry run net/example/eth0 /run/netns/example"]);
}

#[test]
fn a_dry_run_takes_the_environment_there_is() {
    let response = rehearse(&env("DEL"), conf("1.0.0").as_bytes(), &Noting::default());
    assert_eq!(response.stdout, b"attach net/one/eth0\n");
}

#[test]
fn a_failing_dry_run_complains_in_words() {
    let plugin = Noting { fails: true, ..Noting::default() };
    for (stdin, words) in [
        (conf("1.0.0"), "noting: port 80 is taken (by web) [code 101]\n"),
        ("{}".into(), "noting: missing network name: set \"name\" in the network configuration [code 7]\n"),
    ] {
        let response = rehearse(&Env::default(), stdin.as_bytes(), &plugin);
        assert_eq!(String::from_utf8(response.stderr).unwrap(), words);
        assert_eq!((response.stdout.as_slice(), response.exit), (&b""[..], 1));
    }
}
