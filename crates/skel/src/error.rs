//! What is wrong with a call before a plugin sees it, or with its answer afterwards.

use zeugma_model::NameError;
use zeugma_protocol::{CniCode, Code, DecodeError, EncodeError, Version, incompatible_details};

use crate::{ArgsError, Command};

/// A call that no plugin could answer.
#[derive(Debug, thiserror::Error)]
pub enum SkelError {
    /// Variables that the verb needs.
    #[error("required env variables [{}] missing", .variables.join(","))]
    Missing {
        /// Their names.
        variables: Vec<&'static str>,
    },
    /// A variable holds no valid name.
    #[error("{source} ({variable})")]
    Name {
        /// Which.
        variable: &'static str,
        /// Why.
        source: NameError,
    },
    /// No such verb.
    #[error("unknown CNI_COMMAND: {0}: there are ADD, DEL, CHECK, GC, STATUS and VERSION")]
    UnknownCommand(String),
    /// `CNI_ARGS` is malformed.
    #[error(transparent)]
    Args(#[from] ArgsError),
    /// Standard input broke off.
    #[error("error reading from stdin: {source}")]
    Stdin {
        /// Why.
        source: std::io::Error,
    },
    /// The configuration cannot be read.
    #[error(transparent)]
    Conf(DecodeError),
    /// The plugin does not serve the configuration's version.
    #[error("incompatible CNI versions")]
    Incompatible {
        /// The configuration's.
        config: String,
        /// The plugin's.
        supported: &'static [Version],
    },
    /// The configuration's version does not know the verb.
    #[error("config version does not allow {command}")]
    TooOld {
        /// The verb.
        command: Command,
        /// The configuration's.
        config: Version,
    },
    /// The plugin would configure the namespace it runs in.
    #[error("plugin's netns and netns from CNI_NETNS should not be the same")]
    OwnNetns,
    /// The result does not fit the configuration's version.
    #[error(transparent)]
    Result(#[from] EncodeError),
}

impl CniCode for SkelError {
    fn code(&self) -> Code {
        match self {
            Self::Missing { .. } | Self::Name { .. } | Self::UnknownCommand(_) | Self::Args(_) => {
                Code::InvalidEnvironment
            }
            Self::Stdin { .. } => Code::IoFailure,
            Self::Conf(error) => error.code(),
            Self::Incompatible { .. } | Self::TooOld { .. } => Code::IncompatibleVersion,
            Self::OwnNetns => Code::InvalidNetns,
            Self::Result(error) => error.code(),
        }
    }

    fn details(&self) -> String {
        match self {
            Self::Incompatible { config, supported } => incompatible_details(config, supported),
            Self::TooOld { command, config } => {
                format!("config is {:?}; {command} needs {}", config.as_str(), command.since())
            }
            Self::OwnNetns => "give the container a namespace of its own, or set CNI_NETNS_OVERRIDE=1".into(),
            Self::Conf(error) => error.details(),
            Self::Result(error) => error.details(),
            Self::Missing { .. }
            | Self::Name { .. }
            | Self::UnknownCommand(_)
            | Self::Args(_)
            | Self::Stdin { .. } => String::new(),
        }
    }
}
