//! The error object, its codes, and the answer to VERSION.

use serde_json::json;
use zeugma_protocol::{CniCode, Code, ErrorObject, Version, version_answer};

#[derive(Debug, thiserror::Error)]
#[error("cannot write {path:?}")]
struct Failed {
    path: &'static str,
    source: std::io::Error,
}

impl CniCode for Failed {
    fn code(&self) -> Code {
        Code::TryAgainLater
    }
}

#[test]
fn c1_06_an_error_object_has_version_code_message_and_details() {
    let error = ErrorObject {
        cni_version: Some(Version::V1_0_0),
        code: Code::Plugin(101),
        msg: "port 80 is taken".into(),
        details: "by other/one/eth0".into(),
    };
    let expected = json!({ "cniVersion": "1.0.0", "code": 101, "msg": "port 80 is taken", "details": "by other/one/eth0" });
    assert_eq!(error.to_json(), expected);
    assert_eq!(serde_json::to_value(&error).unwrap(), expected);
    assert_eq!(ErrorObject::from_json(&expected), Some(error));
}

#[test]
fn c1_06_what_is_unknown_or_empty_is_left_out() {
    let error =
        ErrorObject { cni_version: None, code: Code::IoFailure, msg: "m".into(), details: String::new() };
    assert_eq!(error.to_json(), json!({ "code": 5, "msg": "m" }));
}

#[test]
fn an_error_object_tells_the_causes() {
    let error = Failed { path: "/x", source: std::io::Error::other("disk full") };
    let object = ErrorObject::new(None, &error);
    assert_eq!((object.code, object.msg.as_str()), (Code::TryAgainLater, "cannot write \"/x\": disk full"));
}

#[test]
fn c1_07_codes_have_their_numbers_both_ways() {
    for number in [1, 2, 3, 4, 5, 6, 7, 8, 11, 50, 51, 100, 999] {
        assert_eq!(Code::from_number(number).number(), number);
    }
    assert_eq!(Code::from_number(3), Code::UnknownContainer);
    assert_eq!(Code::from_number(11), Code::TryAgainLater);
    assert_eq!(Code::from_number(51), Code::LimitedConnectivity);
}

#[test]
fn what_is_no_error_object_is_none() {
    for printed in [json!(null), json!([]), json!({}), json!({ "code": "7" }), json!({ "code": -1 })] {
        assert_eq!(ErrorObject::from_json(&printed), None, "{printed}");
    }
}

#[test]
fn c1_08_version_echoes_the_input_and_lists_all() {
    let all = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
    for (stdin, version) in [
        (&br#"{"cniVersion": "0.4.0"}"#[..], "0.4.0"),
        (br#"{"cniVersion": ""}"#, "1.1.0"),
        (br#"{"cniVersion": 1}"#, "1.1.0"),
        (b"{}", "1.1.0"),
        (b"nonsense", "1.1.0"),
        (b"", "1.1.0"),
    ] {
        let answer = version_answer(stdin, Version::since(Version::V0_1_0));
        assert_eq!(answer, json!({ "cniVersion": version, "supportedVersions": all }));
    }
}

#[test]
fn versions_are_ordered_by_age() {
    assert!(Version::ALL.is_sorted());
    assert_eq!(Version::since(Version::V0_4_0), [Version::V0_4_0, Version::V1_0_0, Version::V1_1_0]);
}
