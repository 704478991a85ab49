//! Waiting without a thread, for programs on tokio: everything that can be waited for is a descriptor.

mod terminal;

pub use terminal::AsyncTerminal;

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::pin;
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output};
use std::task::Poll;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::unix::pipe;

use crate::builder::ContainerBuilder;
use crate::container::Container;
use crate::error::{Error, ErrorKind, Result};
use crate::exec::ExecChild;
use crate::outcome::{Outcome, Run, Usage};

/// A container's standard output or error for tokio.
///
/// # Errors
/// Outside of a runtime with I/O, and what fcntl(2) says.
pub fn reader(pipe: impl Into<OwnedFd>) -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(pipe.into())
}

/// A container's standard input for tokio.
///
/// # Errors
/// As of [`reader`].
pub fn writer(pipe: ChildStdin) -> io::Result<pipe::Sender> {
    pipe::Sender::from_owned_fd(pipe.into())
}

/// With the feature `tokio`: in a runtime with I/O enabled, without a thread of its own.
impl Container {
    /// As [`wait`](Self::wait). Dropping the future loses nothing: the status is still to be had.
    pub async fn wait_async(&mut self) -> Result<ExitStatus> {
        drop(self.stdin.take());
        ended(self.monitor()).await.map_err(|e| waiting(&e))?;
        self.wait()
    }

    /// As [`outcome`](Self::outcome).
    pub async fn outcome_async(&mut self) -> Result<Outcome> {
        self.wait_async().await?;
        self.outcome()
    }

    /// As [`wait_with_output`](Self::wait_with_output). Dropping the future loses what was read so far, and the pipes.
    pub async fn wait_with_output_async(&mut self) -> Result<Output> {
        drop(self.stdin.take());
        let pipes = (self.stdout.take(), self.stderr.take());
        let (stdout, stderr) = collected(pipes).await.map_err(|e| waiting(&e))?;
        Ok(Output { status: self.wait_async().await?, stdout, stderr })
    }
}

/// With the feature `tokio`. A start itself takes some milliseconds of system calls, which block.
impl ContainerBuilder {
    /// As [`status`](Self::status).
    pub async fn status_async(self) -> Result<ExitStatus> {
        let mut container = self.start()?;
        let status = container.wait_async().await?;
        container.remove()?;
        Ok(status)
    }

    /// As [`output`](Self::output). Dropping the future kills the container and removes what it had.
    pub async fn output_async(mut self) -> Result<Output> {
        self.collect_output();
        let mut container = self.start()?;
        let output = container.wait_with_output_async().await?;
        container.remove()?;
        Ok(output)
    }

    /// As [`run`](Self::run).
    pub async fn run_async(mut self) -> Result<Run> {
        self.collect_output();
        let mut container = match self.start() {
            Err(e) if e.kind() == ErrorKind::Lost => {
                let (stdout, stderr) = (Vec::new(), Vec::new());
                return Ok(Run { outcome: Outcome::NeverStarted, usage: Usage::default(), stdout, stderr });
            }
            other => other?,
        };
        let output = container.wait_with_output_async().await?;
        let (outcome, usage) = (container.outcome()?, container.usage()?);
        container.remove()?;
        Ok(Run { outcome, usage, stdout: output.stdout, stderr: output.stderr })
    }
}

/// With the feature `tokio`.
impl ExecChild {
    /// As [`wait`](Self::wait).
    pub async fn wait_async(&mut self) -> Result<ExitStatus> {
        drop(self.stdin.take());
        ended(self.monitor()).await.map_err(|e| waiting(&e))?;
        self.wait()
    }

    /// As [`outcome`](Self::outcome).
    pub async fn outcome_async(&mut self) -> Result<Outcome> {
        self.wait_async().await?;
        self.outcome()
    }

    /// As [`wait_with_output`](Self::wait_with_output).
    pub async fn wait_with_output_async(mut self) -> Result<Output> {
        drop(self.stdin.take());
        let pipes = (self.stdout.take(), self.stderr.take());
        let (stdout, stderr) = collected(pipes).await.map_err(|e| waiting(&e))?;
        Ok(Output { status: self.wait_async().await?, stdout, stderr })
    }
}

fn waiting(error: &io::Error) -> Error {
    Error::io("cannot wait", error)
}

/// Until the monitor has ended, right after it has told how its child did: what is said then is there to be read. Of a copy: the runtime
/// takes what it watches.
#[expect(deprecated, reason = "what must hold does: it owns its descriptor, and gives no other")]
async fn ended(monitor: BorrowedFd<'_>) -> io::Result<()> {
    let copy = monitor.try_clone_to_owned()?;
    AsyncFd::with_interest(copy, Interest::READABLE)?.readable().await?.retain_ready();
    Ok(())
}

/// Both pipes to their ends, whichever has something.
async fn collected(pipes: (Option<ChildStdout>, Option<ChildStderr>)) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (stdout, stderr) = (pipes.0.map(reader).transpose()?, pipes.1.map(reader).transpose()?);
    both(whole(stdout), whole(stderr)).await
}

async fn whole(pipe: Option<pipe::Receiver>) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut read).await?;
    }
    Ok(read)
}

/// Two futures at once; the first error ends it.
async fn both<A, B>(
    a: impl Future<Output = io::Result<A>>,
    b: impl Future<Output = io::Result<B>>,
) -> io::Result<(A, B)> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    poll_fn(move |context| {
        if of_a.is_none()
            && let Poll::Ready(done) = a.as_mut().poll(context)
        {
            of_a = Some(done?);
        }
        if of_b.is_none()
            && let Poll::Ready(done) = b.as_mut().poll(context)
        {
            of_b = Some(done?);
        }
        match (of_a.take(), of_b.take()) {
            (Some(a), Some(b)) => Poll::Ready(Ok((a, b))),
            waits => {
                (of_a, of_b) = waits;
                Poll::Pending
            }
        }
    })
    .await
}
