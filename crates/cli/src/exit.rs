//! How a command ends: a message on stderr and an exit code of `sysexits`, as istioctl has them.
use std::fmt;

/// Why a command failed, in the caller's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Failure = 1,
    Usage = 64,
    BadInput = 65,
    Unreachable = 69,
    Denied = 77,
}

/// A message for people and the code for scripts.
#[derive(Debug)]
pub struct Failure {
    pub code: Code,
    pub message: String,
}

pub type Outcome = Result<(), Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Code::Usage, message)
    }
    pub fn input(message: impl Into<String>) -> Failure {
        Failure::new(Code::BadInput, message)
    }
    pub fn unreachable(message: impl Into<String>) -> Failure {
        Failure::new(Code::Unreachable, message)
    }
    /// An error of the system while doing `what`; a lack of permission has its own code.
    pub fn io(what: impl fmt::Display, error: &std::io::Error) -> Failure {
        let code = match error.kind() {
            std::io::ErrorKind::PermissionDenied => Code::Denied,
            std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::TimedOut => Code::Unreachable,
            _ => Code::Failure,
        };
        Failure::new(code, format!("{what}: {error}"))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        let code = error
            .chain()
            .find_map(|e| e.downcast_ref::<std::io::Error>())
            .map_or(Code::Failure, |e| Failure::io("", e).code);
        Failure::new(code, format!("{error:#}"))
    }
}
