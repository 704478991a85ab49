//! What is told of a container in several lists, and the verbs of its ports.

use std::ffi::OsString;

use clap::Args;
use isolate::{Container, Publish};

use crate::exit::{Failure, Result};
use crate::verbs::inspect::find;
use crate::verbs::print_each;

/// Flags of `port`.
#[derive(Args, Debug)]
pub(crate) struct Port {
    /// The container
    container: String,
    /// One of its own ports alone
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

/// Flags of `publish` and `unpublish`.
#[derive(Args, Debug)]
pub(crate) struct Ports {
    /// A name, or the beginning of an id
    container: String,
    /// [ADDRESS:]HOST[-HOST]:PORT[-PORT][/PROTOCOL]
    #[arg(required = true, value_name = "PORTS")]
    ports: Vec<Publish>,
}

impl Ports {
    pub(crate) fn publish(&self) -> Result<()> {
        let container = Container::open(&self.container)?;
        self.ports.iter().try_for_each(|ports| print_each(container.publish(*ports)?))
    }

    pub(crate) fn unpublish(&self) -> Result<()> {
        let container = Container::open(&self.container)?;
        Ok(self.ports.iter().try_for_each(|ports| container.unpublish(*ports))?)
    }
}

impl Port {
    pub(crate) fn run(&self) -> Result<()> {
        let published = find(&self.container)?.published;
        let inside = |publish: &Publish| format!("{}/{}", publish.container_port(), publish.protocol());
        let Some(port) = &self.port else {
            return print_each(
                published.iter().map(|publish| format!("{} -> {}", inside(publish), outside(publish, 1))),
            );
        };
        let wanted = if port.contains('/') { port.clone() } else { format!("{port}/tcp") };
        let found: Vec<_> = published.iter().filter(|publish| inside(publish) == wanted).collect();
        match found.is_empty() {
            true => Err(Failure::new(format!("container `{}`: {wanted} is not published", self.container))),
            false => print_each(found.into_iter().map(|publish| outside(publish, 1))),
        }
    }
}

/// A command line as one text.
pub(crate) fn command_line(words: &[OsString]) -> String {
    words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// `0.0.0.0:9000-9010->8080-8090/tcp`, as Docker lists them: neighbours together.
pub(crate) fn ports(published: &[Publish]) -> String {
    let mut sorted = published.to_vec();
    sorted.sort();
    let mut runs: Vec<(Publish, u16)> = Vec::new();
    for publish in sorted {
        match runs.last_mut() {
            Some((first, count)) if follows(first, *count, &publish) => *count += 1,
            _ => runs.push((publish, 1)),
        }
    }
    let range = |first: u16, count: u16| match count {
        1 => first.to_string(),
        _ => format!("{first}-{}", first.saturating_add(count - 1)),
    };
    let text = |(publish, count): &(Publish, u16)| {
        format!(
            "{}->{}/{}",
            outside(publish, *count),
            range(publish.container_port(), *count),
            publish.protocol()
        )
    };
    runs.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn follows(first: &Publish, count: u16, next: &Publish) -> bool {
    let same = first.address() == next.address() && first.protocol() == next.protocol();
    let at = |port: u16| port.checked_add(count);
    same && at(first.host_port()) == Some(next.host_port())
        && at(first.container_port()) == Some(next.container_port())
}

/// The host's side.
fn outside(publish: &Publish, count: u16) -> String {
    let address = match publish.address() {
        None => "0.0.0.0".to_owned(),
        Some(address) if address.is_ipv6() => format!("[{address}]"),
        Some(address) => address.to_string(),
    };
    let (first, last) = (publish.host_port(), publish.host_port().saturating_add(count.saturating_sub(1)));
    if first == last { format!("{address}:{first}") } else { format!("{address}:{first}-{last}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(texts: &[&str]) -> String {
        let published: Vec<Publish> =
            texts.iter().flat_map(|text| text.parse::<Publish>().unwrap().each()).collect();
        ports(&published)
    }

    #[test]
    fn ports_are_listed_as_docker_lists_them() {
        assert_eq!(listed(&["9000:8080"]), "0.0.0.0:9000->8080/tcp");
        assert_eq!(listed(&["127.0.0.1:53:53/udp", "[::1]:80:80"]), "[::1]:80->80/tcp, 127.0.0.1:53->53/udp");
        assert_eq!(
            listed(&["9000-9010:8080-8090", "9011:1"]),
            "0.0.0.0:9000-9010->8080-8090/tcp, 0.0.0.0:9011->1/tcp"
        );
        assert_eq!(listed(&[]), "");
    }

    #[test]
    fn a_command_line_is_its_words() {
        assert_eq!(command_line(&["sh".into(), "-c".into(), "a  b".into()]), "sh -c a  b");
    }
}
