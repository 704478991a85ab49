//! Reading and writing of block devices.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, major, minor, stat};

use super::Limits;
use crate::{Bytes, Error, Result};

/// What a group wants of the io controller.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub(crate) struct Io {
    pub(crate) weight: Option<u32>,
    pub(crate) max: Vec<(Device, IoMax)>,
    pub(crate) weights: Vec<(Device, u32)>,
    pub(crate) latencies: Vec<(Device, Duration)>,
}

/// A block device: its numbers, or a path that leads to it.
///
/// A path may be that of the device, or of any file: then it is the device that the file's file system lies on. A partition stands
/// for its disk, which is what the kernel limits. It is resolved when the limit is applied.
///
/// ```
/// use isolate_cgroups::Device;
///
/// assert_eq!(Device::from((8, 0)).to_string(), "8:0");
/// assert_eq!(Device::from("/dev/sda").to_string(), "/dev/sda");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Device {
    /// A path.
    Path(PathBuf),
    /// Major and minor number.
    Number(u32, u32),
}

impl Device {
    /// Major and minor number of the whole device.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) for a path that is not there; [`InvalidInput`](crate::ErrorKind::InvalidInput) for a
    /// file system on no block device: a tmpfs, an overlay, a network file system.
    pub fn resolve(&self) -> Result<(u32, u32)> {
        let path = match self {
            Self::Number(major, minor) => return Ok((*major, *minor)),
            Self::Path(path) => path,
        };
        let said = || format!("device {}", path.display());
        let found = stat(path).map_err(|errno| Error::os(said(), errno))?;
        let is_device = FileType::from_raw_mode(found.st_mode) == FileType::BlockDevice;
        let number = if is_device { found.st_rdev } else { found.st_dev };
        let (of_major, of_minor) = (major(number), minor(number));
        if of_major == 0 {
            return Err(Error::invalid(format!("{}: its file system is on no block device", said()))
                .with_hint("name the device itself, or its numbers"));
        }
        Ok(whole(of_major, of_minor).unwrap_or((of_major, of_minor)))
    }
}

/// The disk of a partition (sysfs: a partition is a directory below its disk's).
fn whole(major: u32, minor: u32) -> Option<(u32, u32)> {
    let place = Path::new("/sys/dev/block").join(format!("{major}:{minor}"));
    if !place.join("partition").exists() {
        return None;
    }
    let text = std::fs::read_to_string(place.join("../dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Number(major, minor) => write!(f, "{major}:{minor}"),
        }
    }
}

impl From<&str> for Device {
    fn from(path: &str) -> Self {
        Self::Path(path.into())
    }
}

impl From<&Path> for Device {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<PathBuf> for Device {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<(u32, u32)> for Device {
    fn from((major, minor): (u32, u32)) -> Self {
        Self::Number(major, minor)
    }
}

/// The most of one device, a second: `io.max`. What is not said is not limited.
///
/// ```
/// use isolate_cgroups::{Bytes, IoMax, Limits};
///
/// let disk = IoMax::new().read(Bytes::mib(100)).write(Bytes::mib(20)).write_operations(500);
/// Limits::new().io_max("/dev/sda", disk).validate()?;
/// # Ok::<(), isolate_cgroups::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[must_use = "it binds nobody until limits take it"]
pub struct IoMax {
    read: Option<Bytes>,
    write: Option<Bytes>,
    read_operations: Option<u64>,
    write_operations: Option<u64>,
}

impl IoMax {
    /// No limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes read, a second.
    pub fn read(mut self, bytes: impl Into<Bytes>) -> Self {
        self.read = Some(bytes.into());
        self
    }

    /// Bytes written, a second.
    pub fn write(mut self, bytes: impl Into<Bytes>) -> Self {
        self.write = Some(bytes.into());
        self
    }

    /// Read operations, a second.
    pub fn read_operations(mut self, operations: u64) -> Self {
        self.read_operations = Some(operations);
        self
    }

    /// Write operations, a second.
    pub fn write_operations(mut self, operations: u64) -> Self {
        self.write_operations = Some(operations);
        self
    }

    /// Bytes read and written, operations; `None`: no limit.
    pub(crate) fn values(&self) -> [Option<u64>; 4] {
        let [read, write] = [self.read, self.write].map(|bytes| bytes.map(Bytes::get));
        [read, write, self.read_operations, self.write_operations]
            .map(|value| value.filter(|value| *value != u64::MAX))
    }

    /// The four words of the kernel's line.
    pub(crate) fn words(&self) -> [String; 4] {
        let [rbps, wbps, riops, wiops] = self.values();
        [("rbps", rbps), ("wbps", wbps), ("riops", riops), ("wiops", wiops)].map(
            |(name, value)| match value {
                Some(value) => format!("{name}={value}"),
                None => format!("{name}=max"),
            },
        )
    }

    pub(crate) fn has_zero(&self) -> bool {
        self.values().contains(&Some(0))
    }
}

impl Limits {
    /// The most that the group reads and writes of a device, a second. `io.max`.
    ///
    /// Of buffered writes it holds those whose pages the group wrote, on ext4, btrfs and f2fs (cgroup-v2.rst, "Writeback").
    pub fn io_max(mut self, device: impl Into<Device>, max: IoMax) -> Self {
        self.io.max.push((device.into(), max));
        self
    }

    /// The share of every device when it is busy, 1 to 10,000; a group without has 100. `io.weight`: wants
    /// `CONFIG_BLK_CGROUP_IOCOST`, switched on for the device in `io.cost.qos`, or the scheduler bfq.
    pub fn io_weight(mut self, weight: u32) -> Self {
        self.io.weight = Some(weight);
        self
    }

    /// The [share](Self::io_weight) of one device.
    pub fn io_device_weight(mut self, device: impl Into<Device>, weight: u32) -> Self {
        self.io.weights.push((device.into(), weight));
        self
    }

    /// How long the group's operations on a device may take: others with a higher target are held back when they take longer.
    /// 0 takes it back. `io.latency`, with `CONFIG_BLK_CGROUP_IOLATENCY`.
    pub fn io_latency(mut self, device: impl Into<Device>, target: Duration) -> Self {
        self.io.latencies.push((device.into(), target));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn what_is_not_said_is_not_limited() {
        let max = IoMax::new().write(Bytes::mib(1)).read_operations(7);
        assert_eq!(max.words().join(" "), "rbps=max wbps=1048576 riops=7 wiops=max");
        assert_eq!(IoMax::new().read(Bytes::UNLIMITED).words()[0], "rbps=max");
    }

    #[test]
    fn a_device_is_what_its_path_leads_to() {
        assert_eq!(Device::from((8, 16)).resolve().unwrap(), (8, 16));
        let error = Device::from("/nowhere/sda").resolve().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().starts_with("device /nowhere/sda: "), "{error}");
        let error = Device::from("/proc/self/status").resolve().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
