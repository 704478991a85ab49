//! What a start would do, in words.

use std::borrow::Cow;
use std::fmt;

/// The steps of a start: those of the caller's process, then those of the launcher and the container.
///
/// ```
/// use isolate::Container;
/// # fn main() -> isolate::Result<()> {
/// let plan = Container::builder().name("box").command(["true"]).plan()?;
/// assert!(plan.steps().any(|step| step == "set the host name box"));
/// println!("{plan}");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Plan {
    pub(crate) before: Vec<String>,
    pub(crate) launch: isolate_namespaces::Plan,
    /// Made while the container exists and waits: after the clone.
    pub(crate) held: Vec<String>,
}

impl Plan {
    /// The steps in words, first to last.
    pub fn steps(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let [before, held] =
            [&self.before, &self.held].map(|steps| steps.iter().map(|step| step.as_str().into()));
        let prepared = self.launch.steps().take(self.launch.before_child());
        let child = self.launch.steps().skip(self.launch.before_child());
        before.chain(prepared).chain(held).chain(child)
    }
}

/// One line a step.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.steps().enumerate() {
            writeln!(f, "{:>3}. {step}", n + 1)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
