//! The command line.

use std::path::PathBuf;

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    /// Leave after the first answer.
    pub once: bool,
    /// Port of the host.
    pub port: u16,
    /// A root file system with Tomcat in it.
    pub rootfs: Option<PathBuf>,
    /// An image with Tomcat in it, as a registry has it, a layout (`oci:DIRECTORY:NAME`) or an archive (`docker-archive:FILE`).
    pub image: Option<String>,
    /// Be the server: how the container calls this program.
    pub serve: bool,
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { once: false, port: 9000, rootfs: None, image: None, serve: false };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} wants a value"));
            match arg.as_str() {
                "--once" => options.once = true,
                "--serve" => options.serve = true,
                "--port" => options.port = value()?.parse().map_err(|e| format!("--port: {e}"))?,
                "--rootfs" => options.rootfs = Some(value()?.into()),
                "--image" => options.image = Some(value()?),
                _ => {
                    return Err(format!(
                        "{arg}? usage: tomcat [--once] [--port N] [--rootfs DIR] [--image IMAGE]"
                    ));
                }
            }
        }
        Ok(options)
    }
}
