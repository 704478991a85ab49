//! Variables of a program's environment.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use clap::Args;

use crate::exit::{Failure, Result};

/// Flags of the environment.
#[derive(Args, Debug)]
pub(crate) struct EnvironmentOptions {
    /// A variable; a name alone has the value that it has here
    #[arg(short, long = "env", value_name = "NAME[=VALUE]", help_heading = "Program")]
    env: Vec<String>,
    /// A file of variables, one a line
    #[arg(long = "env-file", value_name = "FILE", help_heading = "Program")]
    env_files: Vec<PathBuf>,
}

impl EnvironmentOptions {
    /// Names and values: those of files first, so that flags count.
    pub(crate) fn variables(&self) -> Result<Vec<(OsString, OsString)>> {
        let mut all = Vec::new();
        for path in &self.env_files {
            let failed = |e| Failure::from(e).of(path.display());
            let text = fs::read_to_string(path).map_err(failed)?;
            let lines =
                text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
            for line in lines {
                all.extend(variable(line).map_err(|e| e.of(path.display()))?);
            }
        }
        for text in &self.env {
            all.extend(variable(text)?);
        }
        Ok(all)
    }
}

/// None for a name that is not set here.
fn variable(text: &str) -> Result<Option<(OsString, OsString)>> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.into())),
        None => (text, env::var_os(text)),
    };
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(Failure::new(format!("`{text}` is no variable: write it like NAME=VALUE")));
    }
    Ok(value.map(|value| (name.into(), value)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::options::tests::{described, refused, with};

    #[test]
    fn a_variable_has_the_value_that_is_said_or_that_it_has_here() {
        let path = std::env::var("PATH").unwrap();
        let said = with(&["-e", "A=b=c", "--env", "PATH", "-e", "EMPTY=", "-e", "NOT_SET_HERE_AT_ALL"]);
        assert_eq!(said["env"], json!([["A", "b=c"], ["PATH", path], ["EMPTY", ""]]));
        assert!(refused(&["-e", "=x"]).contains("=x"));
    }

    #[test]
    fn a_file_has_a_variable_a_line_and_flags_count_more() {
        let file = std::env::temp_dir().join(format!("isolate-env-{}", std::process::id()));
        std::fs::write(&file, "# comment\n\nA=1\n  B=two words\n").unwrap();
        let path = file.to_str().unwrap();
        let said = described(&["-e", "A=2", "--env-file", path, "image"]);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(said.unwrap()["env"], json!([["A", "1"], ["B", "two words"], ["A", "2"]]));
        assert!(refused(&["--env-file", "/no/such/file"]).contains("/no/such/file"));
    }
}
