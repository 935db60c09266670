//! Why a machine cannot capture, each reason with what to do about it.

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// Why transparent capture is impossible here. Every message is one line that ends with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WhyNot {
    #[error(
        "user namespaces are switched off (user.max_user_namespaces is 0): set it with `sudo sysctl user.max_user_namespaces=15000`, or use --capture env"
    )]
    SwitchedOff,
    #[error(
        "network namespaces are switched off (user.max_net_namespaces is 0): set it with `sudo sysctl user.max_net_namespaces=15000`, or use --capture env"
    )]
    NetworkSwitchedOff,
    #[error(
        "the limit of user or network namespaces is reached: end other meshes or containers, raise user.max_user_namespaces and user.max_net_namespaces, or use --capture env"
    )]
    LimitReached,
    #[error(
        "this kernel lets only root make user namespaces (kernel.unprivileged_userns_clone is 0): allow it with `sudo sysctl kernel.unprivileged_userns_clone=1`, or use --capture env"
    )]
    RootOnly,
    #[error(
        "AppArmor restricts unprivileged user namespaces: allow them with `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0` or an AppArmor profile with `userns` for this binary, or use --capture env"
    )]
    AppArmor,
    #[error(
        "making a user namespace is forbidden here, usually by a container's seccomp profile: run the container with --security-opt seccomp=unconfined, run outside it, or use --capture env"
    )]
    Forbidden,
    #[error("this kernel was built without {what}: use a kernel that has it, or use --capture env")]
    KernelLacks { what: &'static str },
    #[error(
        "the process had several threads before the holder took over: filamesh must call holder_main first in main (a bug, please report), or use --capture env"
    )]
    Threads,
    #[error(
        "setting up the namespace failed at {stage}: {error}: use --capture env, and please report this line"
    )]
    Unexpected { stage: String, error: String },
}

/// A step of making the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Stage {
    #[error("making the user namespace")]
    Unshare,
    #[error("mapping the user and group id")]
    IdMap,
    #[error("bringing up lo and its routes")]
    Links,
    #[error("installing the nf_tables rules")]
    Rules,
    #[error("opening the sockets")]
    Sockets,
    #[error("preparing the holder process")]
    Holder,
}

/// What the holder says when it gives up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SetupFailure {
    pub stage: Stage,
    pub errno: Option<i32>,
    pub message: String,
}

/// The settings that tell one EPERM from another; `None` where the kernel has no such setting.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settings {
    pub max_user_namespaces: Option<u64>,
    pub max_net_namespaces: Option<u64>,
    pub unprivileged_userns_clone: Option<u64>,
    pub apparmor_restricts: Option<u64>,
}

impl Settings {
    /// As this machine has them.
    pub(crate) fn read() -> Self {
        let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse().ok();
        Self {
            max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            max_net_namespaces: number("/proc/sys/user/max_net_namespaces"),
            unprivileged_userns_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        }
    }
}

/// From a failed step and the machine's settings to the reason.
///
/// unshare(2): ENOSPC is a reached limit, a limit of 0 included; EPERM is Debian's old switch, a
/// seccomp filter or a chroot; EINVAL is a process with threads, or a kernel without CONFIG_USER_NS
/// (as is ENOSYS). Ubuntu's AppArmor lets the namespace be made but takes the capabilities in it
/// away, so the first thing done with them fails.
pub(crate) fn diagnose(failure: &SetupFailure, settings: Settings) -> WhyNot {
    let errno = failure.errno.map_or(Errno::UnknownErrno, Errno::from_raw);
    let denied = matches!(errno, Errno::EPERM | Errno::EACCES);
    match failure.stage {
        Stage::Unshare if errno == Errno::ENOSPC => {
            if settings.max_user_namespaces == Some(0) {
                WhyNot::SwitchedOff
            } else if settings.max_net_namespaces == Some(0) {
                WhyNot::NetworkSwitchedOff
            } else {
                WhyNot::LimitReached
            }
        }
        Stage::Unshare if matches!(errno, Errno::EINVAL) && settings.max_user_namespaces.is_some() => {
            WhyNot::Threads
        }
        Stage::Unshare if matches!(errno, Errno::EINVAL | Errno::ENOSYS) => {
            WhyNot::KernelLacks { what: "user namespaces (CONFIG_USER_NS)" }
        }
        Stage::Unshare | Stage::IdMap | Stage::Links | Stage::Rules if denied => {
            if settings.unprivileged_userns_clone == Some(0) {
                WhyNot::RootOnly
            } else if settings.apparmor_restricts == Some(1) {
                WhyNot::AppArmor
            } else {
                WhyNot::Forbidden
            }
        }
        // A missing nf_tables subsystem answers EINVAL on its netlink family, a missing protocol
        // EPROTONOSUPPORT, a missing expression or chain type (redirect, nat, reject) ENOENT.
        Stage::Rules
            if matches!(
                errno,
                Errno::EINVAL
                    | Errno::ENOENT
                    | Errno::EOPNOTSUPP
                    | Errno::EPROTONOSUPPORT
                    | Errno::EAFNOSUPPORT
            ) =>
        {
            WhyNot::KernelLacks {
                what: "nf_tables with NAT, redirect and reject (CONFIG_NF_TABLES, CONFIG_NFT_REDIR, CONFIG_NFT_REJECT)",
            }
        }
        stage => WhyNot::Unexpected { stage: stage.to_string(), error: failure.message.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings { max_user_namespaces: Some(100), max_net_namespaces: Some(100), ..Settings::default() }
    }

    /// user_namespaces(7), unshare(2), and the sysctls of Debian and Ubuntu.
    #[test]
    fn reasons() {
        let kernel_lacks = |why: &WhyNot| matches!(why, WhyNot::KernelLacks { .. });
        let off = Settings { max_user_namespaces: Some(0), ..settings() };
        let net_off = Settings { max_net_namespaces: Some(0), ..settings() };
        let debian = Settings { unprivileged_userns_clone: Some(0), ..settings() };
        let ubuntu = Settings { apparmor_restricts: Some(1), ..settings() };
        let unknown = Settings::default();
        for (stage, errno, settings, expected) in [
            (Stage::Unshare, Errno::ENOSPC, off, WhyNot::SwitchedOff),
            (Stage::Unshare, Errno::ENOSPC, net_off, WhyNot::NetworkSwitchedOff),
            (Stage::Unshare, Errno::ENOSPC, settings(), WhyNot::LimitReached),
            (Stage::Unshare, Errno::EPERM, debian, WhyNot::RootOnly),
            (Stage::Unshare, Errno::EPERM, settings(), WhyNot::Forbidden),
            (Stage::Unshare, Errno::EINVAL, settings(), WhyNot::Threads),
            (Stage::IdMap, Errno::EPERM, ubuntu, WhyNot::AppArmor),
            (Stage::IdMap, Errno::EACCES, ubuntu, WhyNot::AppArmor),
            (Stage::Links, Errno::EPERM, ubuntu, WhyNot::AppArmor),
        ] {
            let failure = SetupFailure { stage, errno: Some(errno as i32), message: String::new() };
            assert_eq!(diagnose(&failure, settings), expected, "{stage:?} {errno:?}");
        }
        for (stage, errno, settings) in [
            (Stage::Unshare, Errno::EINVAL, unknown),
            (Stage::Unshare, Errno::ENOSYS, unknown),
            (Stage::Rules, Errno::EPROTONOSUPPORT, settings()),
            (Stage::Rules, Errno::ENOENT, settings()),
        ] {
            let failure = SetupFailure { stage, errno: Some(errno as i32), message: String::new() };
            assert!(kernel_lacks(&diagnose(&failure, settings)), "{stage:?} {errno:?}");
        }
        let odd = SetupFailure { stage: Stage::Sockets, errno: None, message: "port taken".into() };
        let why = diagnose(&odd, settings());
        assert!(why.to_string().contains("opening the sockets: port taken"), "{why}");
    }

    #[test]
    fn every_reason_is_one_line_and_names_a_way_out() {
        for why in [
            WhyNot::SwitchedOff,
            WhyNot::NetworkSwitchedOff,
            WhyNot::LimitReached,
            WhyNot::RootOnly,
            WhyNot::AppArmor,
            WhyNot::Forbidden,
            WhyNot::KernelLacks { what: "x" },
            WhyNot::Threads,
            WhyNot::Unexpected { stage: "x".into(), error: "y".into() },
        ] {
            let line = why.to_string();
            assert!(!line.contains('\n') && line.contains("--capture env"), "{line}");
        }
    }
}
