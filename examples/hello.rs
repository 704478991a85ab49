//! Run one command in a container and read what it printed.
use isolate::Container;

fn main() -> isolate::Result<()> {
    let output = Container::builder()
        .command(["echo", "hello from inside"]) // on the host's own programs, copy-on-write
        .output()?;

    print!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
