//! Help, completions and man pages.

use testkit::scratch;

use crate::common::isolate;

#[test]
fn help_and_version_are_no_failures() {
    let help = isolate(&["--help"]).well();
    for verb in ["run", "ps", "pull", "network", "check"] {
        assert!(help.contains(&format!("\n  {verb}")), "{verb} in {help}");
    }
    assert!(isolate(&["run", "--help"]).well().contains("--publish"));
    assert!(isolate(&["--version"]).well().starts_with("isolate "));
    assert!(isolate(&[]).err.contains("Usage"), "without a verb all verbs are listed");
}

#[test]
fn completions_know_every_verb() {
    for (shell, sign) in [("bash", "_isolate"), ("zsh", "#compdef isolate"), ("fish", "complete -c isolate")]
    {
        let text = isolate(&["completions", shell]).well();
        assert!(text.contains(sign) && text.contains("network") && text.contains("publish"), "{shell}");
    }
}

#[test]
fn each_verb_has_a_man_page() {
    let directory = scratch();
    isolate(&["man", directory.to_str().unwrap()]).well();
    for page in ["isolate.1", "isolate-run.1", "isolate-network-create.1"] {
        let text = std::fs::read_to_string(directory.join(page)).unwrap();
        assert!(text.starts_with(".ie") && text.contains(".SH NAME"), "{page}: {text}");
    }
    std::fs::remove_dir_all(directory).unwrap();
}
