//! Where an image may be had: its registry's mirrors, and it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::reference::Reference;
use crate::registry::{Credentials, Endpoint, Registry};

/// Of what may be over by and by.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// However long a registry says to wait.
const LONGEST: Duration = Duration::from_secs(30);

/// In the order in which they are asked; each is connected to when it is asked first.
pub(super) struct Sources {
    reference: Reference,
    all: Vec<Source>,
}

struct Source {
    endpoint: Endpoint,
    credentials: Option<Credentials>,
    registry: OnceLock<Registry>,
    /// A mirror that could not be reached is not asked again.
    gone: AtomicBool,
}

impl Sources {
    pub(super) fn new(
        reference: &Reference,
        mirrors: &[String],
        plain_http: bool,
        credentials: Option<Credentials>,
    ) -> Result<Self> {
        let mirror = |url: &String| Endpoint::mirror(url).map(|endpoint| Source::new(endpoint, None));
        let mut all: Vec<Source> = mirrors.iter().map(mirror).collect::<Result<_>>()?;
        all.push(Source::new(Endpoint::of(reference.registry(), plain_http), credentials));
        Ok(Self { reference: reference.clone(), all })
    }

    /// What the first one gives that gives something.
    pub(super) fn each<T>(&self, mut ask: impl FnMut(&Registry) -> Result<T>) -> Result<T> {
        let mut failed: Option<Error> = None;
        for source in self.all.iter().filter(|source| !source.gone.load(Ordering::Relaxed)) {
            match retried(|| ask(source.registry(&self.reference)?)) {
                Ok(got) => return Ok(got),
                // The registry's own word, which is asked last, is what counts.
                Err(e) => {
                    let last = self.all.last().is_some_and(|last| std::ptr::eq(last, source));
                    source.gone.store(!last && source.registry.get().is_none(), Ordering::Relaxed);
                    failed = Some(e);
                }
            }
        }
        Err(failed.unwrap_or_else(|| Error::new(crate::ErrorKind::Registry, "nobody to ask")))
    }

    /// For messages.
    pub(super) fn words(&self) -> String {
        self.all.last().map(|source| source.endpoint.host().to_owned()).unwrap_or_default()
    }
}

impl Source {
    fn new(endpoint: Endpoint, credentials: Option<Credentials>) -> Self {
        Self { endpoint, credentials, registry: OnceLock::new(), gone: AtomicBool::new(false) }
    }

    fn registry(&self, reference: &Reference) -> Result<&Registry> {
        if let Some(registry) = self.registry.get() {
            return Ok(registry);
        }
        // Two may connect at once; one of them is kept.
        let connected = Registry::connect(&self.endpoint, reference, self.credentials.clone())?;
        Ok(self.registry.get_or_init(|| connected))
    }
}

fn retried<T>(mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let mut pause = PAUSE;
    for _ in 1..ATTEMPTS {
        match ask() {
            Err(e) => match e.again() {
                Some(after) => thread::sleep(after.unwrap_or(pause).min(LONGEST)),
                None => return Err(e),
            },
            done => return done,
        }
        pause *= 2;
    }
    ask()
}
