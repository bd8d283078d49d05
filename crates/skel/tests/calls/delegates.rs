//! Delegates: real processes, written by the tests as shell scripts.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use zeugma_protocol::{CniCode, Code, NetConf};
use zeugma_skel::delegate::{DelegateError, exec, find, is_self};
use zeugma_skel::{CniArgs, Command, NetworkRequest, Request};

const RESULT: &str = r#"echo '{"ips":[{"address":"10.1.2.3/24"}]}'"#;

/// A folder with an executable `ipam` of these lines.
fn delegate(lines: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ipam");
    fs::write(&file, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    (folder, file)
}

fn request(stdin: &str) -> Request {
    Request {
        conf: NetConf::parse(stdin.as_bytes()).unwrap(),
        container: "one".parse().unwrap(),
        netns: None,
        ifname: "eth0".parse().unwrap(),
        args: CniArgs::default(),
        path: vec!["/a".into(), "/b".into()],
        stdin: stdin.into(),
    }
}

fn conf() -> Request {
    request(r#"{"cniVersion":"1.0.0","name":"net","ipam":{"type":"ipam"}}"#)
}

/// Runs a delegate of these lines for ADD and gives its error.
fn add_error(lines: &str) -> DelegateError {
    let (_folder, file) = delegate(lines);
    exec(&file, Command::Add, &conf(), &conf().stdin).unwrap_err()
}

#[test]
fn c1_29_a_delegate_gets_environment_and_configuration() {
    let (folder, file) = delegate(
        r#"cd "$(dirname "$0")" && env | grep ^CNI_ | sort > env && cat > stdin && echo '{"ips":[{"address":"10.1.2.3/24"}]}'"#,
    );
    let result = exec(&file, Command::Add, &conf(), &conf().stdin).unwrap().unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.1.2.3/24");
    let seen = |name| fs::read_to_string(folder.path().join(name)).unwrap();
    let expected = "CNI_COMMAND=ADD\nCNI_CONTAINERID=one\nCNI_IFNAME=eth0\nCNI_NETNS=\nCNI_PATH=/a:/b\n";
    assert_eq!(seen("env"), expected);
    assert_eq!(seen("stdin").as_bytes(), conf().stdin);
}

#[test]
fn c1_26_gc_is_forwarded_without_an_attachment() {
    let (_folder, file) = delegate(r#"[ "$CNI_COMMAND$CNI_CONTAINERID$CNI_PATH" = GC/a ] || exit 1"#);
    let Request { conf, stdin, .. } = conf();
    let network = NetworkRequest { conf, path: vec!["/a".into()], stdin };
    assert_eq!(exec(&file, Command::Gc, &network, &network.stdin).unwrap(), None);
}

#[test]
fn large_configurations_and_results_do_not_block() {
    let (_folder, file) =
        delegate(&format!("head -c 200000 /dev/zero | tr '\\0' ' '; cat > /dev/null; {RESULT}"));
    let stdin = vec![b' '; 300_000];
    assert!(exec(&file, Command::Add, &conf(), &stdin).unwrap().is_some());
}

#[test]
fn a_delegate_need_not_read_its_configuration() {
    let (_folder, file) = delegate("exit 0");
    assert_eq!(exec(&file, Command::Del, &conf(), &vec![b' '; 300_000]).unwrap(), None);
}

#[test]
fn a_delegates_code_message_and_details_are_kept() {
    let error = add_error(r#"echo '{"code":11,"msg":"pool is busy","details":"try"}'; exit 1"#);
    assert_eq!((error.code(), error.to_string().as_str()), (Code::TryAgainLater, "ipam: pool is busy"));
    assert_eq!(error.details(), "try");
}

#[test]
fn a_delegate_that_fails_without_a_word_is_an_error() {
    let error = add_error("exit 3");
    assert_eq!(error.code(), Code::IoFailure);
    assert!(error.to_string().contains("exit status: 3"), "{error}");
    let error = add_error("echo panic; kill -9 $$");
    assert!(error.to_string().contains("panic") && error.to_string().contains("signal: 9"), "{error}");
}

#[test]
fn an_add_without_a_readable_result_is_an_error() {
    assert!(matches!(add_error("exit 0"), DelegateError::NoResult { .. }));
    let error = add_error(r#"echo '{"ips":[{"address":1}]}'"#);
    assert_eq!(error.code(), Code::DecodingFailure);
    assert!(error.to_string().contains("ips[0].address"), "{error}");
}

#[test]
fn a_delegate_that_cannot_run_is_an_error() {
    let error = exec(Path::new("/nowhere/ipam"), Command::Add, &conf(), b"").unwrap_err();
    assert_eq!(error.code(), Code::IoFailure);
    assert!(error.to_string().contains("/nowhere/ipam"), "{error}");
}

#[test]
fn c1_29_delegates_are_found_in_the_order_of_the_path() {
    let ((first, file), (second, _)) = (delegate(RESULT), delegate(RESULT));
    let path = ["/nowhere".into(), first.path().into(), second.path().into()];
    assert_eq!(find("ipam", &path).unwrap(), file);
}

#[test]
fn c1_29_only_plain_names_of_files_are_found() {
    let (folder, _) = delegate(RESULT);
    fs::create_dir(folder.path().join("folder")).unwrap();
    let path = [folder.path().to_path_buf()];
    for name in ["../x", "a/b", "/bin/sh", "..", "."] {
        assert!(matches!(find(name, &path), Err(DelegateError::NotAName(_))), "{name}");
    }
    assert!(matches!(find("", &path), Err(DelegateError::NoType)));
    for name in ["absent", "folder"] {
        let error = find(name, &path).unwrap_err();
        assert_eq!(error.code(), Code::InvalidNetworkConfig);
        assert!(error.to_string().starts_with(&format!("failed to find plugin {name:?} in path")), "{error}");
    }
}

#[test]
fn this_executable_is_known_through_links() {
    let folder = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    let (soft, hard) = (folder.path().join("soft"), folder.path().join("hard"));
    symlink(&own, &soft).unwrap();
    assert!(is_self(&soft));
    if fs::hard_link(&own, &hard).is_ok() {
        assert!(is_self(&hard));
    }
    assert!(!is_self(Path::new("/bin/sh")) && !is_self(Path::new("/nowhere")));
}
