//! Flags of `run` and `create`, and what they make of a container's description.

pub(crate) mod environment;
pub(crate) mod lasting;
pub(crate) mod limits;
mod mounts;
mod namespaces;
pub(crate) mod networks;
mod pairs;
pub(crate) mod program;
mod rights;
mod root;

pub(crate) use pairs::{Pair, pair};
pub(crate) use root::PullPolicy;

use clap::{ArgAction, Args};
use isolate::{Container, ContainerBuilder};

use crate::exit::Result;

/// What a container is to be.
#[derive(Args, Debug)]
pub(crate) struct ContainerOptions {
    /// A name that no other container has
    #[arg(long)]
    pub name: Option<String>,
    /// A pod that it is a container of, by name
    #[arg(long, value_name = "POD")]
    pod: Option<String>,
    /// A label, for whoever looks for it
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<Pair>,
    #[command(flatten)]
    pub root: root::RootOptions,
    #[command(flatten)]
    pub program: program::ProgramOptions,
    #[command(flatten)]
    mounts: mounts::MountOptions,
    #[command(flatten)]
    pub networks: networks::NetworkOptions,
    #[command(flatten)]
    limits: limits::LimitOptions,
    #[command(flatten)]
    rights: rights::RightOptions,
    #[command(flatten)]
    namespaces: namespaces::NamespaceOptions,
    #[command(flatten)]
    pub lasting: lasting::LastingOptions,
    /// Print help
    #[arg(long, action = ArgAction::HelpShort)]
    help: Option<bool>,
}

impl ContainerOptions {
    /// The description. Nothing is made, and nothing looked up but the container of `--network container:NAME`.
    pub(crate) fn describe(&self) -> Result<ContainerBuilder> {
        let mut builder = Container::builder();
        if let Some(name) = &self.name {
            builder = builder.name(name);
        }
        for (key, value) in &self.labels {
            builder = builder.label(key, value);
        }
        builder = self.root.apply(builder)?;
        builder = self.program.apply(builder)?;
        builder = self.mounts.apply(builder);
        builder = self.networks.apply(builder, self.pod.is_none())?;
        if let Some(pod) = &self.pod {
            builder = builder.pod(pod);
        }
        builder = builder.limits(self.limits.limits()?);
        builder = self.rights.apply(builder);
        builder = self.namespaces.apply(builder);
        Ok(self.lasting.apply(builder))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser;
    use serde_json::Value;

    use super::*;
    use crate::exit::Failure;

    #[derive(Parser, Debug)]
    #[command(no_binary_name = true, disable_help_flag = true)]
    struct Line {
        #[command(flatten)]
        options: ContainerOptions,
    }

    /// What a command line without its verb describes, as it is written down.
    pub(crate) fn described(line: &[&str]) -> Result<Value> {
        let line = Line::try_parse_from(line).map_err(Failure::from)?;
        Ok(serde_json::to_value(line.options.describe()?).unwrap())
    }

    /// The same of flags alone.
    pub(crate) fn with(flags: &[&str]) -> Value {
        described(&[flags, &["image"]].concat()).unwrap_or_else(|e| panic!("{flags:?}: {e:?}"))
    }

    /// Why it is none.
    pub(crate) fn refused(flags: &[&str]) -> String {
        format!("{:?}", described(&[flags, &["image"]].concat()).expect_err(&format!("{flags:?}")))
    }

    #[test]
    fn without_flags_there_is_nothing_but_the_image_and_a_network() {
        let (said, plain) = (with(&[]), serde_json::to_value(Container::builder()).unwrap());
        for (key, value) in said.as_object().unwrap() {
            if !["rootfs", "networks"].contains(&key.as_str()) {
                assert_eq!(value, &plain[key], "{key}");
            }
        }
        assert_eq!(said["rootfs"]["image"], "image");
    }

    #[test]
    fn names_and_labels_are_what_was_said() {
        let said = with(&["--name", "web", "-l", "tier=front", "--label", "alone"]);
        assert_eq!(said["name"], "web");
        assert_eq!(said["labels"]["tier"], "front");
        assert_eq!(said["labels"]["alone"], "");
    }

    #[test]
    fn in_a_pod_there_is_no_network_but_what_was_said() {
        let said = with(&["--pod", "shop"]);
        assert_eq!((&said["pod"], &said["networks"]), (&"shop".into(), &serde_json::json!([])));
        assert_eq!(with(&["--pod", "shop", "--network", "none"])["networks"][0]["mode"], "none");
    }

    #[test]
    fn what_stands_behind_the_image_is_the_programs() {
        let said = described(&["--name", "x", "image", "ls", "--name", "-la"]).unwrap();
        assert_eq!(said["command"], serde_json::json!(["ls", "--name", "-la"]));
        assert_eq!(said["name"], "x");
        assert!(
            format!("{:?}", described(&["--no-such-flag", "image"]).unwrap_err()).contains("--no-such-flag")
        );
    }
}
