//! A mount namespace of the test's own: what it mounts is seen by what it starts and by nobody else, and gone with it.
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Runs the test in a thread that has its own mounts; says by name what is skipped where that is not allowed.
pub fn own_mounts(what: &str, test: impl FnOnce() + Send) {
    let tried = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let nothing: Option<&str> = None;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            let own = unshare(CloneFlags::CLONE_NEWNS)
                .and_then(|()| mount(nothing, "/", nothing, private, nothing));
            match own {
                Ok(()) => test(),
                Err(error) => eprintln!("SKIPPED: {what} (no mount namespace: {error})"),
            }
        });
        thread.join()
    });
    if let Err(panic) = tried {
        std::panic::resume_unwind(panic);
    }
}

/// Shows one directory at the place of another.
pub fn bind(from: &Path, at: &Path) {
    mount(Some(from), at, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// A file system in memory of this size.
pub fn memory(at: &Path, size: &str) {
    mount(Some("none"), at, Some("tmpfs"), MsFlags::empty(), Some(format!("size={size}").as_str())).unwrap();
}

pub fn unmount(at: &Path) {
    umount2(at, MntFlags::MNT_DETACH).unwrap();
}

/// An ext4 file system in a file, mounted; `None`, and said, where there are no loop devices or tools.
pub fn ext4(image: &Path, at: &Path, what: &str) -> Option<()> {
    std::fs::File::create(image).unwrap().set_len(32 << 20).unwrap();
    let made = ran(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(image))
        .and_then(|()| ran(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at)))
        .and_then(|()| ran(Command::new("fsfreeze").arg("--version")));
    match made {
        Ok(()) => Some(()),
        Err(why) => {
            eprintln!("SKIPPED: {what} ({why})");
            None
        }
    }
}

fn ran(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// A file system that takes no write: whoever writes waits. Thawed when dropped, also if the test is killed: the tool
/// that thaws waits for the end of a pipe that this process holds.
pub struct Frozen {
    thaw: Child,
    hold: Option<ChildStdin>,
}

impl Frozen {
    pub fn freeze(at: &Path) -> Frozen {
        let at: PathBuf = at.to_owned();
        let mut thaw = Command::new("sh")
            .args(["-c", "read _; exec fsfreeze --unfreeze \"$0\""])
            .arg(&at)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let hold = thaw.stdin.take();
        let frozen = Frozen { thaw, hold };
        ran(Command::new("fsfreeze").arg("--freeze").arg(&at)).unwrap();
        frozen
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(mut hold) = self.hold.take() {
            let _ = hold.write_all(b"\n");
        }
        let _ = self.thaw.wait();
    }
}
