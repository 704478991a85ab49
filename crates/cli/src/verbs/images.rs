//! `images`, `rmi`, `load`, `tag`, `import`, `commit`: what is in the store.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use clap::Args;
use isolate::images::{Config, Image, Named, Reference, Store};
use isolate::{Bytes, Container, State};

use crate::exit::{Failure, Result};
use crate::table::{Format, Table};
use crate::times;
use crate::verbs::{each, print, print_each};

/// How many digits of a digest are shown.
const SHORT: usize = 12;

/// Flags of `images`.
#[derive(Args, Debug)]
pub(crate) struct Images {
    /// Print digests alone
    #[arg(short, long)]
    quiet: bool,
    /// Print digests whole
    #[arg(long)]
    no_trunc: bool,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Only of this repository
    repository: Option<String>,
}

/// Flags of `rmi`.
#[derive(Args, Debug)]
pub(crate) struct Rmi {
    /// Keep what no name leads to any more
    #[arg(long)]
    no_prune: bool,
    /// Names, or beginnings of digests
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Flags of `load`.
#[derive(Args, Debug)]
pub(crate) struct Load {
    /// An archive or the directory of a layout, in place of standard input
    #[arg(short, long, value_name = "PATH")]
    input: Option<PathBuf>,
}

/// Flags of `tag`.
#[derive(Args, Debug)]
pub(crate) struct Tag {
    /// A name, or the beginning of a digest
    image: String,
    /// The new name
    name: Reference,
}

/// Flags of `import`.
#[derive(Args, Debug)]
pub(crate) struct Import {
    /// The archive, `-` for standard input
    file: PathBuf,
    /// The image's name
    name: Reference,
}

/// Flags of `commit`.
#[derive(Args, Debug)]
pub(crate) struct Commit {
    /// Do not let it stand still meanwhile: files may be caught half written
    #[arg(long)]
    no_pause: bool,
    /// A name, or the beginning of an id
    container: String,
    /// The image's name
    name: Reference,
}

impl Images {
    pub(crate) fn run(&self) -> Result<()> {
        let mut table = Table::new([
            ("REPOSITORY", "Repository"),
            ("TAG", "Tag"),
            ("IMAGE ID", "ID"),
            ("CREATED", "CreatedSince"),
            ("SIZE", "Size"),
            ("", "CreatedAt"),
            ("", "Digest"),
        ]);
        let mut digests = Vec::new();
        let store = Store::of_user()?;
        for Named { reference, digest, .. } in store.images()? {
            let repository = repository(&reference);
            if self.repository.as_ref().is_some_and(|wanted| *wanted != repository) {
                continue;
            }
            let whole = digest.to_string();
            let id = if self.no_trunc { whole.clone() } else { short(digest.hex()) };
            digests.push(id.clone());
            // Of one that is not for this machine nothing is known.
            let image = store.image(&reference).ok();
            let created = image.as_ref().and_then(Image::created);
            let seconds =
                created.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs());
            table.push([
                repository,
                reference.tag().unwrap_or("<none>").to_owned(),
                id,
                seconds.map_or_else(|| "-".to_owned(), times::ago),
                image.map_or_else(|| "-".to_owned(), |image| Bytes::new(image.size()).to_string()),
                created.map(times::rfc3339).unwrap_or_default(),
                whole,
            ]);
        }
        if self.quiet { print_each(digests) } else { table.show(self.format) }
    }
}

impl Rmi {
    pub(crate) fn run(&self) -> Result<()> {
        let store = Store::of_user()?;
        let removed = each(&self.images, |image| {
            let name = find(&store, image)?;
            store.remove(&name)?;
            Ok(format!("Untagged: {name}"))
        });
        if !self.no_prune {
            let pruned = store.prune()?;
            if pruned.blobs + pruned.layers > 0 {
                print(format_args!(
                    "Deleted: {} layers, {} of blobs",
                    pruned.layers,
                    Bytes::new(pruned.bytes)
                ))?;
            }
        }
        removed
    }
}

impl Load {
    pub(crate) fn run(&self) -> Result<()> {
        let store = Store::of_user()?;
        let loaded = match &self.input {
            Some(path) => store.load(path)?,
            None => store.load_archive(io::stdin().lock())?,
        };
        print_each(loaded.iter().map(|loaded| match &loaded.reference {
            Some(name) => format!("Loaded image: {name}"),
            None => format!("Loaded image ID: {}", loaded.image.digest()),
        }))
    }
}

impl Tag {
    pub(crate) fn run(&self) -> Result<()> {
        let store = Store::of_user()?;
        Ok(store.tag(&image(&store, &self.image)?, &self.name)?)
    }
}

impl Import {
    pub(crate) fn run(&self) -> Result<()> {
        let store = Store::of_user()?;
        let archive: Box<dyn Read> = match self.file.as_os_str() == "-" {
            true => Box::new(io::stdin().lock()),
            false => Box::new(File::open(&self.file).map_err(|e| Failure::from(e).of(self.file.display()))?),
        };
        let image = store.import(archive, &Config::default())?;
        store.tag(&image, &self.name)?;
        print(image.digest())
    }
}

impl Commit {
    pub(crate) fn run(&self) -> Result<()> {
        let container = Container::open(&self.container)?;
        let pauses = !self.no_pause && container.inspect()?.state == State::Running;
        if pauses {
            container.pause()?;
        }
        let image = container.commit(&self.name);
        if pauses {
            container.resume()?;
        }
        print(image?.digest())
    }
}

/// An image by a name, or the beginning of a digest that has one.
fn image(store: &Store, text: &str) -> Result<Image> {
    Ok(store.image(&find(store, text)?)?)
}

fn find(store: &Store, text: &str) -> Result<Reference> {
    let named = store.images()?;
    let wanted = text.parse::<Reference>();
    if let Ok(wanted) = &wanted
        && named.iter().any(|one| one.reference == *wanted)
    {
        return Ok(wanted.clone());
    }
    let begins =
        |one: &&Named| text.len() >= 4 && one.digest.hex().starts_with(text.trim_start_matches("sha256:"));
    match named.iter().filter(begins).collect::<Vec<_>>()[..] {
        [one] => Ok(one.reference.clone()),
        [] => wanted.map_err(Failure::from),
        _ => Err(Failure::new(format!("image {text}: several names lead to it")).hint("name one of them")),
    }
}

/// As Docker's users write it: what goes without saying is left out.
fn repository(reference: &Reference) -> String {
    let whole = format!("{}/{}", reference.registry(), reference.repository());
    let short = whole.strip_prefix("docker.io/").map(|rest| rest.strip_prefix("library/").unwrap_or(rest));
    short.unwrap_or(&whole).to_owned()
}

fn short(hex: &str) -> String {
    hex.chars().take(SHORT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_written_as_docker_writes_it() {
        for (name, wanted) in [
            ("tomcat:10", "tomcat"),
            ("team/app", "team/app"),
            ("localhost:5000/library/app", "localhost:5000/library/app"),
        ] {
            assert_eq!(repository(&name.parse().unwrap()), wanted);
        }
    }
}
