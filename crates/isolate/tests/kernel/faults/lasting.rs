//! What the owner does with a container that lasts: it makes one, starts it, executes in it, stops it and removes it.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use isolate::{ContainerBuilder, Outcome, Signal};

use super::owner::{phase, shape};

/// Whatever fails, it goes on: it has to be removed.
pub(super) fn live(described: &ContainerBuilder, name: &str) {
    let Some(container) = phase("create", || described.clone().create()) else { return };
    phase("launch", || container.start());
    if let Ok(mut shell) = container.exec("/bin/sh") {
        println!("shape {}", shape(name, &mut shell));
    }
    phase("inside", || {
        let output = container.exec("sh")?.args(["-c", "echo out; exit 3"]).output()?;
        // With all else in the container, whose monitor was killed.
        if output.status.signal() == Some(9) {
            return Err(format!("container `{name}`: what was executed was killed").into());
        }
        assert_eq!((output.status.code(), &*output.stdout), (Some(3), &b"out\n"[..]));
        Ok::<_, Box<dyn std::error::Error>>(())
    });
    phase("halt", || {
        let ended = container.stop(Duration::from_millis(500))?;
        let by_signal = [Outcome::Signaled(Signal::TERM), Outcome::Signaled(Signal::KILL)];
        assert!(ended.is_none_or(|ended| by_signal.contains(&ended)), "{ended:?}");
        Ok::<_, isolate::Error>(())
    });
    phase("discard", || container.remove_by_force());
}
