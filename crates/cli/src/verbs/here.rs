//! A container that lasts, run in the foreground: `run`, `start --attach`, `attach`.

use std::thread;
use std::time::SystemTime;

use isolate::{Detached, ErrorKind, Signal};

use crate::exit::{Failure, Result, told_outcome};
use crate::output::Output;
use crate::terminal::{Left, Session};
use crate::verbs::signals::Signals;

/// Starts it, and is there until it has ended for good. Its exit code.
pub(crate) fn start(container: &Detached, input: bool) -> Result<u8> {
    let (signals, before) = (Signals::block_with_window()?, SystemTime::now());
    let attachment = container.start_attached()?;
    let send = |signal| pass_on(container, signal);
    let session =
        |output| Session { attachment: &attachment, input, output, signals: &signals, send: &send }.run();
    // A reader that is late loses output of an attachment, and none of a log; who looks at a terminal is not late, nor leaves another.
    if attachment.is_terminal() {
        return match session(None)? {
            Left::Detached => Ok(0),
            Left::Ended => Ok(told_outcome(container.wait()?)),
        };
    }
    let output = Output::default();
    thread::scope(|scope| {
        let log = scope.spawn(|| {
            let mut source = output.source();
            for line in container.logs().since(before).follow(true) {
                let line = line?;
                source.bring(line.stream, &line.bytes)?;
            }
            Ok::<(), Failure>(())
        });
        session(Some(&output))?;
        log.join().map_err(|_| Failure::new("the log could not be read"))?
    })?;
    Ok(told_outcome(container.wait()?))
}

/// Is there, from now on.
pub(crate) fn attach(container: &Detached, input: bool) -> Result<u8> {
    let signals = Signals::block_with_window()?;
    let attachment = container.attach()?;
    let send = |signal| pass_on(container, signal);
    let session = Session { attachment: &attachment, input, output: None, signals: &signals, send: &send };
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
