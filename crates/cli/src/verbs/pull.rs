//! `pull`, and what `run` fetches.

use std::sync::Arc;

use clap::Args;
use isolate::images::{self, Image, Platform, Reference, Source, Store};

use crate::exit::{Failure, Result};
use crate::options::PullPolicy;
use crate::progress::Layers;
use crate::verbs::print;

/// Flags of `pull`.
#[derive(Args, Debug)]
pub(crate) struct Pull {
    /// Print the image's whole name alone, and no progress
    #[arg(short, long)]
    quiet: bool,
    /// For another platform than this machine's (linux/arm64)
    #[arg(long)]
    platform: Option<Platform>,
    /// Speak HTTP with a registry of another machine: whoever is between can give another image
    #[arg(long)]
    plain_http: bool,
    /// Where to look before the registry (https://mirror.example.org)
    #[arg(long = "mirror", value_name = "URL")]
    mirrors: Vec<String>,
    /// The image
    image: Reference,
}

impl Pull {
    pub(crate) fn run(&self) -> Result<()> {
        let pull = images::Pull::new(self.image.clone()).plain_http(self.plain_http);
        let pull = self.mirrors.iter().fold(pull, images::Pull::mirror);
        let pull = match &self.platform {
            Some(platform) => pull.platform(platform.clone()),
            None => pull,
        };
        let pull = if self.quiet { pull } else { seen(pull) };
        let image = pull.run(&Store::of_user()?)?;
        if !self.quiet {
            print(format_args!("Digest: {}", image.digest()))?;
        }
        print(&self.image)
    }
}

/// Has a bar a layer.
fn seen(pull: images::Pull) -> images::Pull {
    let layers = Arc::new(Layers::default());
    pull.progress(move |layer| layers.told(layer))
}

/// An image that something is to be run in, in the store afterwards.
pub(crate) fn bring(source: &Source, policy: PullPolicy) -> Result<Image> {
    let store = Store::of_user()?;
    let found = match (source, policy) {
        (Source::Registry(_), PullPolicy::Always) => None,
        (Source::Registry(_), _) | (_, PullPolicy::Never) => source.find(&store)?,
        // What lies there now.
        _ => return Ok(source.bring(&store)?),
    };
    match (found, source, policy) {
        (Some(image), ..) => Ok(image),
        (None, Source::Registry(reference), PullPolicy::Always | PullPolicy::Missing) => {
            Ok(seen(images::Pull::new(reference.clone())).run(&store)?)
        }
        _ => Err(Failure::new("the image is not here, and nothing is to be fetched")
            .hint("--pull missing fetches it")),
    }
}
