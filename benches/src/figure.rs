//! Times, and figures that can be compared from run to run.

use std::time::{Duration, Instant};

/// What one measured thing took, each time.
#[derive(Debug, Clone, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Takes the time of one.
    pub fn take<T>(&mut self, what: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = what();
        self.0.push(start.elapsed());
        result
    }

    /// Adds a time that was taken otherwise.
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time that this part of them (0.1: a tenth) was faster than.
    ///
    /// # Panics
    /// Without any.
    pub fn percentile(&self, part: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let place = (part * (sorted.len() - 1) as f64).round() as usize;
        sorted[place]
    }

    /// One line of a table: tenth percentile, median, ninetieth, in µs.
    pub fn print(&self, name: &str) {
        let us = |part| self.percentile(part).as_secs_f64() * 1e6;
        println!("{name:<34} {:>9.0} {:>9.0} {:>9.0}   n = {}", us(0.1), us(0.5), us(0.9), self.0.len());
    }

    /// How often this is of that, tenth percentile against tenth percentile.
    pub fn ratio(&self, to: &Self) -> f64 {
        self.percentile(0.1).as_secs_f64() / to.percentile(0.1).as_secs_f64()
    }
}

/// The head of a table of [`Times::print`].
pub fn head(title: &str) {
    println!("\n{title}\n{:<34} {:>9} {:>9} {:>9}   µs", "", "p10", "median", "p90");
}

/// One figure on a line of its own: `figure start/limit 1.21 x`.
pub fn print(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.2} {unit}");
}
