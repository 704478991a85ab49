//! `pod create`.

use clap::Args;
use clap::builder::PossibleValuesParser;
use isolate::{Namespace, PodBuilder, UserNamespace};

use crate::exit::Result;
use crate::options::limits::LimitOptions;
use crate::options::networks::NetworkOptions;
use crate::options::{Pair, pair};
use crate::verbs::print;

/// What containers of a pod can share, as podman's users say it.
const KINDS: [(&str, Namespace); 4] =
    [("net", Namespace::Net), ("ipc", Namespace::Ipc), ("uts", Namespace::Uts), ("pid", Namespace::Pid)];

/// Flags of `pod create`.
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// A name that no other pod and no container has
    #[arg(short, long, value_name = "NAME", conflicts_with = "pod")]
    name: Option<String>,
    /// The host name of its containers
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// A label, for whoever looks for it
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<Pair>,
    /// What its containers share: ipc, net, pid, uts; or none
    #[arg(long, value_name = "KINDS", value_delimiter = ',', default_value = "ipc,net,uts",
        value_parser = PossibleValuesParser::new(["ipc", "net", "pid", "uts", "none"]))]
    share: Vec<String>,
    /// Users: ids of its own, also if that cannot be (an error then), or the host's
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(["auto", "private", "host"]))]
    userns: Option<String>,
    /// A kernel parameter of its namespaces
    #[arg(long = "sysctl", value_name = "KEY=VALUE", value_parser = pair)]
    sysctls: Vec<Pair>,
    #[command(flatten)]
    networks: NetworkOptions,
    #[command(flatten)]
    limits: LimitOptions,
    /// The same as --name
    #[arg(value_name = "NAME")]
    pod: Option<String>,
}

impl Create {
    pub(super) fn run(&self) -> Result<()> {
        print(self.builder()?.create()?.id())
    }

    fn builder(&self) -> Result<PodBuilder> {
        let shares = |name: &str| self.share.iter().any(|share| share == name);
        let kinds = KINDS.into_iter().filter(|(name, _)| shares(name)).map(|(_, kind)| kind);
        let mut builder = isolate::Pod::builder().share(kinds).limits(self.limits.limits()?);
        if let Some(name) = self.name.as_ref().or(self.pod.as_ref()) {
            builder = builder.name(name);
        }
        if let Some(name) = &self.hostname {
            builder = builder.hostname(name);
        }
        builder = self.labels.iter().fold(builder, |builder, (key, value)| builder.label(key, value));
        builder = self.sysctls.iter().fold(builder, |builder, (key, value)| builder.sysctl(key, value));
        builder = match self.userns.as_deref() {
            Some("host") => builder.user_namespace(UserNamespace::Host),
            Some("private") => builder.user_namespace(UserNamespace::Required),
            _ => builder,
        };
        builder = self.networks.attaches(shares("net"))?.into_iter().fold(builder, PodBuilder::network);
        Ok(self.networks.published().iter().fold(builder, |builder, publish| builder.publish(*publish)))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use isolate::{Attach, Bytes, Limits};

    use super::*;

    #[derive(Parser, Debug)]
    #[command(no_binary_name = true)]
    struct Line {
        #[command(flatten)]
        create: Create,
    }

    fn made(line: &[&str]) -> String {
        format!("{:?}", Line::try_parse_from(line).unwrap().create.builder().unwrap())
    }

    #[test]
    fn a_pod_is_made_as_podmans_users_make_it() {
        let line = [
            "--name",
            "shop",
            "-p",
            "9000:8080",
            "--network",
            "web",
            "--memory",
            "64m",
            "--share",
            "net,pid",
        ];
        let wanted = isolate::Pod::builder().name("shop").share([Namespace::Net, Namespace::Pid]);
        let wanted = wanted.limits(Limits::new().memory(Bytes::mib(64))).network(Attach::named("web"));
        assert_eq!(made(&line), format!("{:?}", wanted.publish((9000, 8080))));
        let wanted = isolate::Pod::builder().name("shop").share([]).label("a", "b");
        assert_eq!(made(&["-l", "a=b", "--share", "none", "shop"]), format!("{wanted:?}"));
        assert!(Line::try_parse_from(["--share", "mnt", "shop"]).is_err());
    }
}
