//! What a container sees as `/`, and what it executes there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use isolate::images::Source;
use isolate::{Bytes, ContainerBuilder, Rootfs};

use crate::exit::{Failure, Result};

/// Flags of the root, and everything that stands behind the flags.
#[derive(Args, Debug)]
pub(crate) struct RootOptions {
    /// A directory in place of an image, never written; or `host`: this machine's own programs
    #[arg(long, value_name = "DIR|host", help_heading = "Root")]
    rootfs: Option<PathBuf>,
    /// Nothing of the root can be changed, but for what is mounted on it
    #[arg(long, help_heading = "Root")]
    read_only: bool,
    /// How much may be written to the root, on the disk
    #[arg(long, value_name = "size=BYTES", value_parser = storage, help_heading = "Root")]
    storage_opt: Option<Bytes>,
    /// The program in place of the image's entry point
    #[arg(long, value_name = "PROGRAM", help_heading = "Root")]
    pub entrypoint: Option<String>,
    /// When the image is fetched
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, help_heading = "Root")]
    pub pull: PullPolicy,
    /// The image, unless there is a --rootfs; the program and its arguments
    #[arg(value_name = "IMAGE|COMMAND", trailing_var_arg = true, required = true)]
    words: Vec<OsString>,
}

/// When an image is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullPolicy {
    /// Whatever is here.
    Always,
    /// If it is not here.
    #[default]
    Missing,
    /// It must be here.
    Never,
}

/// `size=10G`, the one option that there is.
fn storage(text: &str) -> Result<Bytes, String> {
    let size = text.strip_prefix("size=").ok_or("there is size=BYTES")?;
    size.parse().map_err(|e: isolate::cgroups::Error| e.to_string())
}

impl RootOptions {
    /// Where its image is to be had, if it is of one.
    pub(crate) fn source(&self) -> Result<Option<Source>> {
        match (&self.rootfs, self.words.first()) {
            (None, Some(image)) => Ok(Some(image_name(image)?.parse()?)),
            _ => Ok(None),
        }
    }

    pub(super) fn apply(&self, builder: ContainerBuilder) -> Result<ContainerBuilder> {
        let builder = match self.storage_opt {
            Some(most) => builder.rootfs(self.rootfs()?.on_disk(most)),
            None => builder.rootfs(self.rootfs()?),
        };
        let builder = builder.read_only_root(self.read_only);
        Ok(match (&self.rootfs, &self.entrypoint) {
            (None, _) => builder.command(self.words.get(1..).unwrap_or_default()),
            (Some(_), None) => builder.command(&self.words),
            (Some(_), Some(first)) => {
                builder.command([&OsString::from(first)].into_iter().chain(&self.words))
            }
        })
    }

    fn rootfs(&self) -> Result<Rootfs> {
        match (&self.rootfs, self.words.first()) {
            (Some(host), _) if host == Path::new("host") => Ok(Rootfs::host()),
            (Some(directory), _) => Ok(directory.clone().into()),
            (None, Some(image)) => Ok(Rootfs::image(image_name(image)?)),
            (None, None) => Err(Failure::new("neither an image nor a --rootfs")),
        }
    }
}

fn image_name(image: &OsString) -> Result<&str> {
    image.to_str().ok_or_else(|| Failure::new(format!("image {image:?}: not of UTF-8")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::options::tests::{described, refused, with};

    #[test]
    fn an_image_a_directory_and_the_host_are_told_apart() {
        let image = described(&["tomcat:10", "run"]).unwrap();
        assert_eq!((&image["rootfs"]["image"], &image["command"]), (&json!("tomcat:10"), &json!(["run"])));
        let directory = described(&["--rootfs", "/srv/alpine", "ls", "/"]).unwrap();
        assert_eq!(directory["rootfs"]["layers"], json!(["/srv/alpine"]));
        assert_eq!(directory["command"], json!(["ls", "/"]));
        let host = described(&["--rootfs", "host", "ls"]).unwrap();
        assert_eq!(host["rootfs"], json!({ "host": true }));
        assert_eq!(host["command"], json!(["ls"]));
    }

    #[test]
    fn any_root_can_be_read_only() {
        for root in [&["--rootfs", "/srv/alpine"][..], &["--rootfs", "host"], &["tomcat:10"]] {
            let said = described(&[&["--read-only"], root, &["ls"]].concat()).unwrap();
            assert_eq!(said["confinement"]["read_only_root"], json!(true), "{said}");
            let said = described(&[root, &["ls"]].concat()).unwrap();
            assert_eq!(said["confinement"]["read_only_root"], json!(false));
        }
    }

    #[test]
    fn an_entry_point_of_a_directory_is_the_program() {
        let said = described(&["--rootfs", "host", "--entrypoint", "/bin/echo", "a", "-n"]).unwrap();
        assert_eq!(said["command"], json!(["/bin/echo", "a", "-n"]));
    }

    #[test]
    fn a_size_of_the_root_is_one_on_the_disk() {
        assert_eq!(with(&["--storage-opt", "size=1g"])["rootfs"]["on_disk"], json!(1 << 30));
        assert!(refused(&["--storage-opt", "colour=red"]).contains("size="));
    }

    #[test]
    fn neither_an_image_nor_a_program_is_an_error() {
        assert!(format!("{:?}", described(&["--name", "x"]).unwrap_err()).contains("IMAGE"));
    }
}
