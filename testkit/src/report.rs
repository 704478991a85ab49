//! What ran and what was missing, for whoever reads the whole run.

use std::fs::OpenOptions;
use std::io::Write;

use crate::Need;

/// Characters of a reason.
const WHY: usize = 500;

/// Appends one line to the file named by `ISOLATE_TESTS_REPORT`, if there is one.
pub(crate) fn line(text: &str) {
    let Some(path) = std::env::var_os("ISOLATE_TESTS_REPORT").filter(|path| !path.is_empty()) else { return };
    let written = OpenOptions::new().create(true).append(true).open(&path).and_then(|mut file| {
        // One write: lines of tests that run at the same time do not mix.
        file.write_all(format!("{text}\n").as_bytes())
    });
    if let Err(error) = written {
        panic!("ISOLATE_TESTS_REPORT={}: {error}", path.display());
    }
}

/// How a test ended that has printed this.
pub(crate) fn ended(test: &str, well: bool, printed: &str) {
    line(&if well { format!("RAN: {test}") } else { format!("FAILED: {test}: {}", why(printed)) });
}

/// What is told of a failure where there is room for one line: the first point that was wrong, or the first panic.
fn why(printed: &str) -> String {
    let mut lines = printed.lines();
    let first = |line: &&str| line.starts_with("WRONG ") || line.contains(" panicked at ");
    let found = lines.by_ref().find(first).unwrap_or("it did not say");
    let message = if found.contains(" panicked at ") { lines.next().unwrap_or_default() } else { "" };
    format!("{found} {message}").trim_end().chars().take(WHY).collect()
}

/// Prints and counts what this machine lacks; a failure where the run requires it.
pub(crate) fn missing(need: &str, test: &str) {
    let text = format!("MISSING {need}: {test}");
    line(&text);
    // Past the capture of the test harness, which drops what a passing test prints.
    writeln!(std::io::stderr(), "{text}").ok();
    let required = std::env::var("ISOLATE_TESTS_REQUIRE").unwrap_or_default();
    assert!(
        !is_required(&required, need),
        "{text}, which this run requires (ISOLATE_TESTS_REQUIRE={required})"
    );
}

/// The first of `needs` that this machine lacks is reported; whether there was one.
pub(crate) fn lacks(needs: &[Need], test: &str) -> bool {
    let lacking = needs.iter().find(|need| !need.is_met());
    if let Some(need) = lacking {
        missing(&need.to_string(), test);
    }
    lacking.is_some()
}

fn is_required(required: &str, need: &str) -> bool {
    required.split(',').any(|name| name.trim() == need || name.trim() == "all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_failure_the_first_reason_is_told() {
        assert_eq!(why("x\nWRONG a point\nthread 'x' panicked at y:1:\nz\n"), "WRONG a point");
        assert_eq!(why("thread 'x' panicked at y:1:\nz\nWRONG"), "thread 'x' panicked at y:1: z");
        assert_eq!(why("\n"), "it did not say");
        assert_eq!(why(&format!("WRONG {}", "ü".repeat(WHY))).chars().count(), WHY);
    }

    #[test]
    fn a_required_need_is_found_by_its_whole_name() {
        assert!(is_required("root, cgroup2", "cgroup2"));
        assert!(!is_required("root,cgroup2", "cgroup"));
        assert!(is_required("all", "overlay"));
        assert!(!is_required("", "root"));
    }
}
