//! The settings by name: one name gives the flag, the variable and the key of the file.

use std::fmt;

/// One setting of `serve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Bus,
    Queue,
    Repo,
    Roles,
    Http,
    HttpToken,
    KeepEnded,
    PaymentWait,
    DrainTimeout,
    Batch,
    Log,
    LogFormat,
}

impl Key {
    /// All of them, in the order in which people read them.
    pub(crate) const ALL: [Self; 12] = [
        Self::Bus,
        Self::Queue,
        Self::Repo,
        Self::Roles,
        Self::Http,
        Self::HttpToken,
        Self::KeepEnded,
        Self::PaymentWait,
        Self::DrainTimeout,
        Self::Batch,
        Self::Log,
        Self::LogFormat,
    ];

    /// The name: `--name` on the command line, `name` in the file.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bus => "bus",
            Self::Queue => "queue",
            Self::Repo => "repo",
            Self::Roles => "roles",
            Self::Http => "http",
            Self::HttpToken => "http-token",
            Self::KeepEnded => "keep-ended",
            Self::PaymentWait => "payment-wait",
            Self::DrainTimeout => "drain-timeout",
            Self::Batch => "batch",
            Self::Log => "log",
            Self::LogFormat => "log-format",
        }
    }

    /// The variable, such as `EXPIRER_KEEP_ENDED`.
    pub(crate) fn variable(self) -> String {
        format!("EXPIRER_{}", self.name().to_uppercase().replace('-', "_"))
    }

    /// The setting of a name in the file.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// What holds where nothing is given. Roles and HTTP depend on the rest; a token has none.
    pub(crate) const fn default_text(self) -> &'static str {
        match self {
            Self::Bus | Self::Queue | Self::Repo => "memory:",
            Self::Roles => "scheduler,expirer,recorder,canceller,reconciler,api",
            Self::Http => "127.0.0.1:8080",
            Self::HttpToken => "",
            Self::KeepEnded => "1h",
            Self::PaymentWait => "30s",
            Self::DrainTimeout => "5s",
            Self::Batch => "256",
            Self::Log => "info",
            Self::LogFormat => "auto",
        }
    }

    /// What the file holds for it, in words.
    pub(crate) const fn file_type(self) -> &'static str {
        match self {
            Self::Batch => "a whole number",
            Self::Roles => "an array of strings",
            _ => "a string",
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
