//! What its programs may do: capabilities, filters, devices, limits of each process.

use std::path::PathBuf;

use clap::Args;
use isolate::{Capabilities, ContainerBuilder, Seccomp, Ulimit};

use crate::options::pairs::{Pair, switch};

/// Flags of rights.
#[derive(Args, Debug)]
pub(crate) struct RightOptions {
    /// A capability beside the others (NET_ADMIN, ALL)
    #[arg(long = "cap-add", value_name = "CAPABILITY", help_heading = "Rights")]
    added: Vec<Capabilities>,
    /// A capability less (ALL for none)
    #[arg(long = "cap-drop", value_name = "CAPABILITY", help_heading = "Rights")]
    dropped: Vec<Capabilities>,
    /// no-new-privileges[=BOOL], seccomp=unconfined|builtin, systempaths=unconfined
    #[arg(long = "security-opt", value_name = "OPTION", value_parser = security, help_heading = "Rights")]
    security: Vec<Security>,
    /// A device of the host, at the same path
    #[arg(long = "device", value_name = "PATH", value_parser = device, help_heading = "Rights")]
    devices: Vec<PathBuf>,
    /// A limit of each process: nofile=1024:2048
    #[arg(long = "ulimit", value_name = "RESOURCE=SOFT[:HARD]", help_heading = "Rights")]
    ulimits: Vec<Ulimit>,
    /// A kernel parameter of its own namespaces
    #[arg(long = "sysctl", value_name = "NAME=VALUE", value_parser = sysctl, help_heading = "Rights")]
    sysctls: Vec<Pair>,
    /// How soon the kernel chooses it when memory runs out, from -1000 (never) to 1000 (first)
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, help_heading = "Rights")]
    oom_score_adj: Option<i32>,
}

/// An option of `--security-opt` that the library has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    NoNewPrivileges(bool),
    /// Without a filter, or with the default one.
    Seccomp(bool),
    Unmasked,
}

impl RightOptions {
    pub(super) fn apply(&self, mut builder: ContainerBuilder) -> ContainerBuilder {
        // All first, so that `--cap-drop ALL --cap-add X` is X in any order, as Docker has it.
        let everything = |set: &&Capabilities| set.is_all();
        if self.dropped.iter().any(|set| everything(&set)) {
            builder = builder.drop_capabilities(Capabilities::all());
        }
        for set in &self.added {
            builder = builder.add_capabilities(*set);
        }
        for set in self.dropped.iter().filter(|set| !everything(set)) {
            builder = builder.drop_capabilities(*set);
        }
        for option in &self.security {
            builder = match option {
                Security::NoNewPrivileges(on) => builder.no_new_privileges(*on),
                Security::Seccomp(true) => builder.seccomp(Seccomp::default_profile()),
                Security::Seccomp(false) => builder.seccomp_unconfined(),
                Security::Unmasked => builder.unmasked(),
            };
        }
        for device in &self.devices {
            builder = builder.device(device);
        }
        for ulimit in &self.ulimits {
            builder = builder.ulimit(ulimit.resource, ulimit.limit);
        }
        for (name, value) in &self.sysctls {
            builder = builder.sysctl(name, value);
        }
        match self.oom_score_adj {
            Some(value) => builder.oom_score_adj(value),
            None => builder,
        }
    }
}

/// Docker separates by `=`, and by `:` in older texts.
fn security(text: &str) -> Result<Security, String> {
    let (name, value) = match text.split_once(['=', ':']) {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    match (name, value) {
        ("no-new-privileges", value) => switch(name, value).map(Security::NoNewPrivileges),
        ("seccomp", Some("unconfined")) => Ok(Security::Seccomp(false)),
        ("seccomp", Some("builtin")) => Ok(Security::Seccomp(true)),
        ("systempaths", Some("unconfined")) => Ok(Security::Unmasked),
        _ => Err("there are no-new-privileges[=BOOL], seccomp=unconfined, seccomp=builtin and systempaths=unconfined".into()),
    }
}

/// `PATH`, or the same twice.
fn device(text: &str) -> Result<PathBuf, String> {
    match text.split_once(':') {
        None => Ok(text.into()),
        Some((outside, inside)) if outside == inside => Ok(outside.into()),
        Some(_) => Err("a device has the same path inside, and all rights: write the path alone".into()),
    }
}

fn sysctl(text: &str) -> Result<Pair, String> {
    let (name, value) = text.split_once('=').ok_or("write it like net.core.somaxconn=1024")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::options::tests::{refused, with};

    fn capabilities(flags: &[&str]) -> Value {
        with(flags)["confinement"]["capabilities"].clone()
    }

    fn written(set: Capabilities) -> Value {
        serde_json::to_value(set).unwrap()
    }

    #[test]
    fn capabilities_come_and_go_by_name() {
        let usual = Capabilities::DEFAULT;
        assert_eq!(capabilities(&["--cap-add", "NET_ADMIN"]), written(usual | Capabilities::NET_ADMIN));
        assert_eq!(capabilities(&["--cap-drop", "kill"]), written(usual - Capabilities::KILL));
        let alone = written(Capabilities::CHOWN);
        assert_eq!(capabilities(&["--cap-drop", "ALL", "--cap-add", "CAP_CHOWN"]), alone);
        assert_eq!(capabilities(&["--cap-add", "CHOWN", "--cap-drop", "all"]), alone);
        assert_eq!(
            capabilities(&["--cap-add", "ALL", "--cap-drop", "SYS_ADMIN"]),
            written(Capabilities::all() - Capabilities::SYS_ADMIN)
        );
        assert!(refused(&["--cap-add", "FLY"]).contains("FLY"));
    }

    #[test]
    fn security_options_are_those_that_the_library_has() {
        for (text, wanted) in [
            ("no-new-privileges", Security::NoNewPrivileges(true)),
            ("no-new-privileges:true", Security::NoNewPrivileges(true)),
            ("no-new-privileges=false", Security::NoNewPrivileges(false)),
            ("seccomp=unconfined", Security::Seccomp(false)),
            ("seccomp=builtin", Security::Seccomp(true)),
            ("systempaths=unconfined", Security::Unmasked),
        ] {
            assert_eq!(security(text), Ok(wanted), "{text}");
        }
        for text in ["seccomp=profile.json", "apparmor=unconfined", "label=disable", "no-new-privileges=no"] {
            assert!(security(text).is_err(), "{text}");
        }
        let said =
            with(&["--security-opt", "seccomp=unconfined", "--security-opt", "no-new-privileges=false"]);
        assert_eq!(said["confinement"]["seccomp"], Value::Null);
        assert_eq!(said["confinement"]["no_new_privileges"], json!(false));
        assert_ne!(with(&[])["confinement"]["seccomp"], Value::Null);
    }

    #[test]
    fn devices_limits_and_parameters_are_what_was_said() {
        let said =
            with(&["--device", "/dev/fuse", "--sysctl", "net.core.somaxconn=9", "--oom-score-adj", "-5"]);
        assert_eq!(said["devices"], json!(["/dev/fuse"]));
        assert_eq!(said["sysctls"], json!([["net.core.somaxconn", "9"]]));
        assert_eq!(said["confinement"]["oom_score_adj"], json!(-5));
        let limits = with(&["--ulimit", "nofile=1024:2048"])["confinement"]["limits"].clone();
        assert_eq!(limits.as_array().map(Vec::len), Some(3), "beside the two that are there: {limits}");
        assert!(refused(&["--device", "/dev/a:/dev/b:r"]).contains("same path"));
        assert!(refused(&["--sysctl", "x"]).contains("somaxconn"));
        assert!(refused(&["--ulimit", "files=1"]).contains("files"));
    }
}
