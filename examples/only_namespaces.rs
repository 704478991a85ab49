//! `isolate-namespaces` alone: std::process::Command with a few more methods.
use isolate_namespaces::{Command, IdMap, Namespace};

fn main() -> isolate_namespaces::Result<()> {
    let output = Command::new("hostname")
        .unshare([Namespace::User, Namespace::Uts, Namespace::Pid])
        .uid_map(IdMap::root_is_caller())
        .hostname("sandbox")
        .output()?;
    print!("its host name is {}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.stdout, b"sandbox\n");
    Ok(())
}
