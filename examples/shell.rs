//! `docker run -it`: a shell in a container, on this terminal.
use isolate::{Container, WindowSize};

fn main() -> isolate::Result<()> {
    let size = WindowSize::of_stdin().unwrap_or_default();
    let mut container = Container::builder().name("shell").command(["/bin/bash"]).terminal(size).start()?;
    if let Some(mut terminal) = container.terminal.take() {
        // In raw mode until the shell ends; then as before.
        terminal.interact().unwrap_or_else(|e| eprintln!("the terminal: {e}"));
    }
    let status = container.wait()?;
    println!("the shell ended: {status}");
    container.remove()
}
