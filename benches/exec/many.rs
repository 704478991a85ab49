//! Ten threads at once in one container against one thread.

use std::error::Error;
use std::thread;
use std::time::Instant;

use isolate::{Container, Stdio};
use isolate_benches::figure;

use crate::limit::Limit;

const THREADS: usize = 10;
/// Of each measurement, however many threads share them.
const EXECS: usize = 300;
const TURNS: usize = 3;

/// What one does over and over, on a thread of its own; an error ends the bench.
type Work<'a> = dyn Fn(usize) -> Result<(), String> + Sync + 'a;

/// Both, in turns. A figure is the wall-clock time per exec with ten threads, times the cores that they share, by that with one thread: 1
/// is flat, what one costs in a crowd is what it costs alone; less than 1 is what one thread leaves of a core.
pub(crate) fn measure(container: &Container) -> Result<(), Box<dyn Error>> {
    let cores = thread::available_parallelism()?.get().min(THREADS);
    println!("\nten threads at once, on {cores} cores");
    let execs = |times| {
        (0..times).try_for_each(|_| {
            let status = container.exec(crate::DYNAMIC).stdin(Stdio::null()).status();
            match status.map_err(|e| e.to_string())? {
                status if status.success() => Ok(()),
                status => Err(status.to_string()),
            }
        })
    };
    let limits = |times| {
        let limit = Limit::new(container, crate::DYNAMIC_C).map_err(|e| e.to_string())?;
        (0..times).try_for_each(|_| limit.run().map_err(|e| e.to_string()))
    };
    let measured: [(&str, &Work<'_>); 2] = [("exec", &execs), ("limit", &limits)];
    for (name, work) in measured {
        let (mut one, mut ten) = (f64::MAX, f64::MAX);
        for _ in 0..TURNS {
            one = one.min(each(1, work)?);
            ten = ten.min(each(THREADS, work)?);
        }
        println!("{name:<34} alone {:>6.0}, ten threads {:>6.0}   µs each", one * 1e6, ten * 1e6);
        figure::print(&format!("{name}-10/{name}-1"), ten * cores as f64 / one, "x");
    }
    Ok(())
}

/// Seconds of wall clock for each.
fn each(threads: usize, work: &Work<'_>) -> Result<f64, Box<dyn Error>> {
    let begin = Instant::now();
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(move || work(EXECS / threads))).collect();
        running.into_iter().try_for_each(|one| one.join().map_err(|_| "a thread panicked".to_owned())?)
    })?;
    Ok(begin.elapsed().as_secs_f64() / EXECS as f64)
}
