//! The error object and its codes.

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::Version;

/// A code of the CNI specification, or one of the plugin's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// 1: incompatible CNI version.
    IncompatibleVersion,
    /// 2: unsupported field in the configuration.
    UnsupportedField,
    /// 3: unknown container: nothing needs cleaning up.
    UnknownContainer,
    /// 4: invalid or missing environment variables.
    InvalidEnvironment,
    /// 5: I/O failure.
    IoFailure,
    /// 6: the configuration is no JSON, or of the wrong shape.
    DecodingFailure,
    /// 7: invalid network configuration.
    InvalidNetworkConfig,
    /// 8: `CNI_NETNS` is the plugin's own namespace.
    InvalidNetns,
    /// 11: a passing condition; try again later.
    TryAgainLater,
    /// 50: STATUS: the plugin is not available: ADD would fail.
    NotAvailable,
    /// 51: STATUS: not available, and existing containers may have limited connectivity.
    LimitedConnectivity,
    /// 100 and above: the plugin's own, listed in its page.
    Plugin(u32),
}

impl Code {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnsupportedField => 2,
            Self::UnknownContainer => 3,
            Self::InvalidEnvironment => 4,
            Self::IoFailure => 5,
            Self::DecodingFailure => 6,
            Self::InvalidNetworkConfig => 7,
            Self::InvalidNetns => 8,
            Self::TryAgainLater => 11,
            Self::NotAvailable => 50,
            Self::LimitedConnectivity => 51,
            Self::Plugin(number) => number,
        }
    }

    /// The code of a number on the wire; every unassigned number is somebody's own.
    pub fn from_number(number: u32) -> Self {
        match number {
            1 => Self::IncompatibleVersion,
            2 => Self::UnsupportedField,
            3 => Self::UnknownContainer,
            4 => Self::InvalidEnvironment,
            5 => Self::IoFailure,
            6 => Self::DecodingFailure,
            7 => Self::InvalidNetworkConfig,
            8 => Self::InvalidNetns,
            11 => Self::TryAgainLater,
            50 => Self::NotAvailable,
            51 => Self::LimitedConnectivity,
            own => Self::Plugin(own),
        }
    }
}

/// An error that knows its CNI code. Plugins implement it with an exhaustive match.
pub trait CniCode: std::error::Error {
    /// The code for the runtime.
    fn code(&self) -> Code;
    /// What stands in `details`; empty for nothing.
    fn details(&self) -> String {
        String::new()
    }
}

/// The object that a failing plugin prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorObject {
    /// The version of the configuration, as far as it is known.
    pub cni_version: Option<Version>,
    /// What kind of failure.
    pub code: Code,
    /// What failed, on which object, and what to do.
    pub msg: String,
    /// More; may be empty.
    pub details: String,
}

impl ErrorObject {
    /// The object for `error`: its message, with the messages of its causes that it does not repeat itself.
    pub fn new(cni_version: Option<Version>, error: &impl CniCode) -> Self {
        Self { cni_version, code: error.code(), msg: message_with_causes(error), details: error.details() }
    }

    /// `{"cniVersion": …, "code": …, "msg": …, "details": …}`, without what is unknown or empty.
    pub fn to_json(&self) -> Value {
        let mut object = json!({ "code": self.code.number(), "msg": self.msg });
        if let Some(version) = self.cni_version {
            object["cniVersion"] = version.as_str().into();
        }
        if !self.details.is_empty() {
            object["details"] = self.details.as_str().into();
        }
        object
    }

    /// Reads what a failing plugin printed; none when it is no error object.
    pub fn from_json(printed: &Value) -> Option<Self> {
        let text = |key: &str| printed.get(key).and_then(Value::as_str).unwrap_or_default();
        let code = u32::try_from(printed.get("code")?.as_u64()?).ok()?;
        Some(Self {
            cni_version: text("cniVersion").parse().ok(),
            code: Code::from_number(code),
            msg: text("msg").into(),
            details: text("details").into(),
        })
    }
}

impl Serialize for ErrorObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

fn message_with_causes(error: &impl CniCode) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    message
}
