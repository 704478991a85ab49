//! A container that lasts, run in the foreground: `run`, `start --attach`, `attach`.

use std::io::{self, Write};
use std::thread;
use std::time::SystemTime;

use isolate::{Detached, ErrorKind, Signal, Stream};

use crate::exit::{Failure, Result, told_outcome};
use crate::terminal::{Left, Session};
use crate::verbs::signals::Signals;

/// Starts it, and is there until it has ended for good. Its exit code.
pub(crate) fn start(container: &Detached, input: bool) -> Result<u8> {
    let (signals, before) = (Signals::block_with_window()?, SystemTime::now());
    let attachment = container.start_attached()?;
    // A reader that is late loses output of an attachment, and none of a log; who looks at a terminal is not late.
    let terminal = attachment.is_terminal();
    let log = (!terminal).then(|| {
        let logs = container.logs().since(before).follow(true);
        thread::spawn(move || write_logs(logs))
    });
    let send = |signal| pass_on(container, signal);
    let session =
        Session { attachment: &attachment, input, output: terminal, signals: &signals, send: &send };
    if session.run()? == Left::Detached {
        return Ok(0);
    }
    if let Some(log) = log {
        log.join().map_err(|_| Failure::new("the log could not be read"))??;
    }
    Ok(told_outcome(container.wait()?))
}

/// Is there, from now on.
pub(crate) fn attach(container: &Detached, input: bool) -> Result<u8> {
    let signals = Signals::block_with_window()?;
    let attachment = container.attach()?;
    let send = |signal| pass_on(container, signal);
    let session = Session { attachment: &attachment, input, output: true, signals: &signals, send: &send };
    match session.run()? {
        Left::Detached => Ok(0),
        Left::Ended => Ok(told_outcome(container.wait()?)),
    }
}

/// To one that has ended meanwhile nothing is sent.
fn pass_on(container: &Detached, signal: Signal) -> Result<()> {
    match container.signal(signal) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => Ok(other?),
    }
}

/// What it has written to its standard output comes to ours, and what to its standard error to that.
pub(crate) fn write_logs(logs: isolate::Logs) -> Result<()> {
    for line in logs {
        let line = line?;
        match line.stream {
            Stream::Stderr => io::stderr().write_all(&line.bytes)?,
            _ => {
                io::stdout().write_all(&line.bytes)?;
                io::stdout().flush()?;
            }
        }
    }
    Ok(())
}
