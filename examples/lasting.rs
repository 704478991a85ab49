//! A service that goes on when this program has ended: started again when it fails, watched, logged; found by any other program.
use std::time::Duration;

use isolate::{Container, EventKind, Events, HealthCheck, Restart};

fn main() -> isolate::Result<()> {
    let mut events = Events::new()?;
    // It fails at its first run, and leaves a file that says so.
    let script = "echo run >> /var/tmp/runs; echo \"this is run $(wc -l < /var/tmp/runs)\"; \
                  [ $(wc -l < /var/tmp/runs) -gt 1 ] || exit 1; touch /tmp/ready; exec sleep 1000";
    Container::builder()
        .name("worker")
        .rootfs(isolate::Rootfs::host().with("/var/tmp"))
        .restart(Restart::OnFailure { most: Some(3) })
        .health(HealthCheck::new(["test", "-e", "/tmp/ready"]).interval(Duration::from_millis(50)))
        .command(["/bin/sh", "-c", script])
        .create()?
        .start()?;

    // As another program would.
    let worker = Container::open("worker")?;
    while let Some(event) = events.next(Some(Duration::from_secs(20)))? {
        println!("{}: {:?}", event.container, event.kind);
        if event.kind == EventKind::Health(isolate::Health::Healthy) {
            break;
        }
    }
    let output = worker.exec("ls")?.arg("/tmp").output()?;
    print!("in it: {}", String::from_utf8_lossy(&output.stdout));
    println!("it ended: {:?}", worker.stop(Duration::from_secs(5))?);
    for line in worker.logs() {
        print!("log: {}", String::from_utf8_lossy(&line?.bytes));
    }
    worker.remove()
}
