//! Disks of a test's own: tmpfs, and file systems in files on loop devices, for full disks and power cuts.
//!
//! They need root. [`own_mounts`] puts the whole test process into a mount namespace of its own first, and loop devices
//! are attached so that the kernel lets go of them with the last mount. Invariant: nothing stays mounted or attached,
//! however the test ends, SIGKILL included; [`Mounted`] is there for the order in between.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::runner::not_run;

/// Set in the process that has mounts of its own.
const MARK: &str = "FLAFKA_OWN_MOUNTS";

/// Starts this program again in a mount namespace of its own, if it may; otherwise the tests that mount are not run.
pub fn own_mounts() {
    if std::env::var_os(MARK).is_some() || !rustix::process::geteuid().is_root() {
        return;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--"]);
        command
    };
    let may = unshare()
        .arg("true")
        .output()
        .is_ok_and(|output| output.status.success());
    let Ok(own) = std::env::current_exe() else {
        return;
    };
    if may {
        // It only returns if it fails, and then the tests that mount say so.
        drop(
            unshare()
                .arg(own)
                .args(std::env::args_os().skip(1))
                .env(MARK, "1")
                .exec(),
        );
    }
}

/// Whether this process may mount.
///
/// # Errors
/// It may not: the error counts as "not run" and says why.
pub fn may_mount() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(not_run("mounting needs root"));
    }
    if std::env::var_os(MARK).is_none() {
        return Err(not_run("unshare --mount does not work here"));
    }
    let folder = tempfile::tempdir().context("make a folder")?;
    match Mounted::tmpfs(folder.path(), 1 << 20) {
        Ok(_) => Ok(()),
        Err(error) => Err(not_run(&format!("mount does not work here: {error:#}"))),
    }
}

/// A kind of file system in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ext4.
    Ext4,
    /// XFS, with reflinks.
    Xfs,
    /// Btrfs.
    Btrfs,
}

impl Kind {
    /// Its name for `mount`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
            Kind::Btrfs => "btrfs",
        }
    }

    fn tool(self) -> String {
        format!("mkfs.{}", self.name())
    }

    /// Whether it can be made and mounted here.
    ///
    /// # Errors
    /// It cannot: the error counts as "not run" and says why.
    pub fn available(self) -> Result<()> {
        let tool = self.tool();
        if Command::new(&tool).arg("-V").output().is_err() {
            return Err(not_run(&format!("{tool} is not installed")));
        }
        let folder = tempfile::tempdir().context("make a folder")?;
        let (image, point) = (folder.path().join("image"), folder.path().join("point"));
        fs::create_dir(&point).context("make a mount point")?;
        let tried = self
            .make(&image, 512 << 20)
            .and_then(|()| Mounted::image(&image, &point, self));
        match tried {
            Ok(_) => Ok(()),
            Err(error) => Err(not_run(&format!(
                "no {} on a loop device here: {error:#}",
                self.name()
            ))),
        }
    }

    /// Makes a file system of `bytes` in a sparse file.
    ///
    /// # Errors
    /// The tool fails.
    pub fn make(self, image: &Path, bytes: u64) -> Result<()> {
        let file = File::create(image).context("create an image")?;
        file.set_len(bytes).context("extend an image")?;
        run(Command::new(self.tool()).arg("-q").arg(image))
    }
}

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    point: PathBuf,
}

impl Mounted {
    /// A tmpfs of `bytes`.
    ///
    /// # Errors
    /// `mount` fails.
    pub fn tmpfs(point: &Path, bytes: u64) -> Result<Self> {
        let options = format!("size={bytes}");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(point))?;
        Ok(Self {
            point: point.to_owned(),
        })
    }

    /// The file system in `image`, on a loop device that goes with the mount.
    ///
    /// # Errors
    /// `mount` fails.
    pub fn image(image: &Path, point: &Path, kind: Kind) -> Result<Self> {
        run(Command::new("mount")
            .args(["-t", kind.name(), "-o", "loop"])
            .arg(image)
            .arg(point))?;
        Ok(Self {
            point: point.to_owned(),
        })
    }

    /// Where.
    #[must_use]
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Device number as `major:minor`.
    ///
    /// # Errors
    /// The mount point cannot be looked at.
    pub fn device(&self) -> Result<String> {
        let number = fs::metadata(&self.point)
            .context("look at a mount point")?
            .dev();
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        Ok(format!("{major}:{minor}"))
    }

    /// Unmounts and says whether that worked.
    ///
    /// # Errors
    /// It is in use.
    pub fn unmount(self) -> Result<()> {
        let mut tries = 0;
        loop {
            match run(Command::new("umount").arg(&self.point)) {
                Ok(()) => {
                    std::mem::forget(self);
                    return Ok(());
                }
                Err(error) if tries >= 50 => return Err(error),
                // A process that was just killed may still be letting go of its files.
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
            tries += 1;
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily as a last resort; nothing can be done about a failure here.
        if run(Command::new("umount").arg(&self.point)).is_err() {
            drop(run(Command::new("umount").arg("-l").arg(&self.point)));
        }
    }
}

/// Clones a file on a file system that shares blocks: atomic, and at once.
///
/// # Errors
/// `cp` fails.
pub fn reflink(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg("--reflink=always").args([from, to]))
}

/// Free bytes on the volume of `path`.
///
/// # Errors
/// The system cannot say.
pub fn free_bytes(path: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(path).context("ask for free space")?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("start {command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    bail!(
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    )
}

/// Refuses to work on a machine that is nearly full: `bytes` have to be free where temporary files go.
///
/// # Errors
/// They are not: the error counts as "not run".
pub fn room_for(bytes: u64) -> Result<()> {
    let free = free_bytes(&std::env::temp_dir())?;
    ensure!(
        free >= bytes,
        not_run(&format!(
            "needs {} MiB of temporary space, {} are free",
            bytes >> 20,
            free >> 20
        ))
    );
    Ok(())
}
