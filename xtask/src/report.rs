//! What ran where, and what could not.

use std::collections::BTreeMap;

/// One place that tests ran in.
#[derive(Debug, Default)]
pub(crate) struct Place {
    pub name: String,
    pub ran: usize,
    pub failed: Vec<String>,
    /// Of each that failed, in a line.
    pub why: BTreeMap<String, String>,
    /// Failed among the others, and passed alone.
    pub alone: Vec<String>,
    /// What was lacking, and for how many tests.
    pub missing: BTreeMap<String, usize>,
    pub seconds: u64,
    /// Whether every program of tests ended well.
    pub good: bool,
}

impl Place {
    /// From the lines that the test kit writes, and how the programs ended.
    pub(crate) fn read(name: &str, report: &str, seconds: u64, good: bool) -> Self {
        let mut place = Self { name: name.to_owned(), seconds, good, ..Self::default() };
        for line in report.lines() {
            if line.starts_with("RAN: ") {
                place.ran += 1;
            } else if let Some((test, why)) =
                line.strip_prefix("FAILED: ").and_then(|rest| rest.split_once(": "))
            {
                place.failed.push(test.to_owned());
                place.why.insert(test.to_owned(), why.to_owned());
            } else if let Some((need, _)) =
                line.strip_prefix("MISSING ").and_then(|rest| rest.rsplit_once(": "))
            {
                *place.missing.entry(need.to_owned()).or_default() += 1;
            }
        }
        place
    }

    /// These tests failed at first, which does not count.
    pub(crate) fn passed_alone(mut self, tests: Vec<String>) -> Self {
        let failed = self.failed.len();
        self.failed.retain(|test| !tests.contains(test));
        self.ran += failed - self.failed.len();
        self.alone = tests;
        self
    }

    fn tell_why(&self, test: &str) {
        if let Some(why) = self.why.get(test) {
            println!("    {why}");
        }
    }
}

/// Prints the table; whether all is well.
pub(crate) fn print(places: &[Place]) -> bool {
    println!("\n{:<28} {:>6} {:>7} {:>8} {:>6}  kernel tests", "", "ran", "failed", "missing", "s");
    for place in places {
        let missing: usize = place.missing.values().sum();
        println!(
            "{:<28} {:>6} {:>7} {missing:>8} {:>6}",
            place.name,
            place.ran,
            place.failed.len(),
            place.seconds
        );
    }
    for place in places {
        for (need, count) in &place.missing {
            println!("{}: {count} could not run for want of {need}", place.name);
        }
        for test in &place.alone {
            println!("{}: failed among the others, passed alone: {test}", place.name);
            place.tell_why(test);
        }
        for test in &place.failed {
            println!("{}: FAILED {test}", place.name);
            place.tell_why(test);
        }
        if !place.good && place.failed.is_empty() {
            println!("{}: FAILED, see above", place.name);
        }
    }
    places.iter().all(|place| place.good && place.failed.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_counted_by_need() {
        let place = Place::read(
            "x",
            "RAN: a\nMISSING program:nft: b\nMISSING program:nft: c\nFAILED: d: e: f\n",
            1,
            true,
        );
        assert_eq!((place.ran, place.failed.len()), (1, 1));
        assert_eq!(place.why.get("d").map(String::as_str), Some("e: f"));
        assert_eq!(place.missing.get("program:nft"), Some(&2));
        assert!(!print(&[place]));
        let place = Place::read("x", "RAN: a\nFAILED: d: e\n", 1, true).passed_alone(vec!["d".into()]);
        assert_eq!((place.ran, place.failed.len(), place.alone.len()), (2, 0, 1));
        assert!(print(&[place]));
    }
}
