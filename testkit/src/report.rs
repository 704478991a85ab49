//! What ran and what was missing, for whoever reads the whole run.

use std::fs::OpenOptions;
use std::io::Write;

use crate::Need;

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
    fn a_required_need_is_found_by_its_whole_name() {
        assert!(is_required("root, cgroup2", "cgroup2"));
        assert!(!is_required("root,cgroup2", "cgroup"));
        assert!(is_required("all", "overlay"));
        assert!(!is_required("", "root"));
    }
}
