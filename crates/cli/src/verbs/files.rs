//! `cp`, `diff`, `export`: a container's files.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Args;
use isolate::Container;

use crate::exit::{Failure, Result};
use crate::verbs::print_each;

/// Flags of `cp`.
#[derive(Args, Debug)]
pub(crate) struct Cp {
    /// A path, or CONTAINER:PATH; of a directory that ends in `/.` what is in it
    from: String,
    /// A path, or CONTAINER:PATH
    to: String,
}

/// Flags of `diff`.
#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// A name, or the beginning of an id
    container: String,
}

/// Flags of `export`.
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// A file in place of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A name, or the beginning of an id
    container: String,
}

impl Cp {
    pub(crate) fn run(&self) -> Result<()> {
        match (inside(&self.from), inside(&self.to)) {
            (Some((name, path)), None) => Ok(Container::open(name)?.copy_out(path, &self.to)?),
            (None, Some((name, path))) => Ok(Container::open(name)?.copy_in(&self.from, path)?),
            _ => Err(Failure::new("one of the two is CONTAINER:PATH")
                .hint("a path here that has a colon is written ./a:b")),
        }
    }
}

/// Container and path, unless it is a path of the host.
fn inside(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['/', '.']) { None } else { text.split_once(':') }
}

impl Diff {
    pub(crate) fn run(&self) -> Result<()> {
        print_each(Container::open(&self.container)?.changes()?)
    }
}

impl Export {
    pub(crate) fn run(&self) -> Result<()> {
        let container = Container::open(&self.container)?;
        match &self.output {
            Some(path) => {
                let file = File::create(path).map_err(|e| Failure::from(e).of(path.display()))?;
                Ok(container.export(file)?)
            }
            None if io::stdout().is_terminal() => {
                Err(Failure::new("an archive is not for a terminal").hint("--output FILE"))
            }
            None => Ok(container.export(io::stdout().lock())?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_has_a_containers_name_before_it() {
        assert_eq!(inside("web:/etc/hosts"), Some(("web", "/etc/hosts")));
        assert_eq!(inside("web:"), Some(("web", "")));
        for path in ["/a:b", "./a:b", "file"] {
            assert_eq!(inside(path), None, "{path}");
        }
    }
}
