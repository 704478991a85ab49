//! Which of the host's namespaces a container shares.

use clap::Args;
use clap::builder::PossibleValuesParser;
use isolate::{ContainerBuilder, Namespace, Origin, UserNamespace};

/// Flags of namespaces; the network's is `--network`.
#[derive(Args, Debug)]
pub(crate) struct NamespaceOptions {
    /// Processes: its own or the host's
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(["private", "host"]), help_heading = "Namespaces")]
    pid: Option<String>,
    /// System V IPC and message queues: its own or the host's
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(["private", "host"]), help_heading = "Namespaces")]
    ipc: Option<String>,
    /// The host name: its own or the host's
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(["private", "host"]), help_heading = "Namespaces")]
    uts: Option<String>,
    /// The view of control groups: its own or the host's
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(["private", "host"]), help_heading = "Namespaces")]
    cgroupns: Option<String>,
    /// Users: ids of its own, also if that cannot be (an error then), or the host's
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(["auto", "private", "host"]), help_heading = "Namespaces")]
    userns: Option<String>,
}

impl NamespaceOptions {
    pub(super) fn apply(&self, mut builder: ContainerBuilder) -> ContainerBuilder {
        let kinds = [
            (Namespace::Pid, &self.pid),
            (Namespace::Ipc, &self.ipc),
            (Namespace::Uts, &self.uts),
            (Namespace::Cgroup, &self.cgroupns),
        ];
        for (kind, said) in kinds {
            builder = match said.as_deref() {
                Some("host") => builder.namespace(kind, Origin::host()),
                Some(_) => builder.namespace(kind, Origin::new()),
                None => builder,
            };
        }
        match self.userns.as_deref() {
            Some("host") => builder.user_namespace(UserNamespace::Host),
            Some("private") => builder.user_namespace(UserNamespace::Required),
            _ => builder,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::options::tests::{refused, with};

    #[test]
    fn a_namespace_is_its_own_or_the_hosts() {
        let said = with(&["--pid", "host", "--uts", "private", "--userns", "host"]);
        assert_eq!(said["namespaces"], json!({ "pid": "host", "uts": "new" }));
        assert_eq!(said["user_namespace"], "host");
        assert_eq!(with(&["--userns", "private"])["user_namespace"], "required");
        assert!(refused(&["--ipc", "shareable"]).contains("shareable"));
    }
}
