//! A hundred containers at once, on one thread.
use isolate::{Container, Outcome};

#[tokio::main(flavor = "current_thread")]
async fn main() -> isolate::Result<()> {
    let mut runs = tokio::task::JoinSet::new();
    for n in 0..100 {
        let job = format!("sleep 0.5; exit {}", n % 3);
        runs.spawn(Container::builder().command(["sh", "-c", &job]).run_async());
    }
    let mut codes = [0; 3];
    while let Some(Ok(run)) = runs.join_next().await {
        match run?.outcome {
            Outcome::Exited(code) if (0..3).contains(&code) => codes[code as usize] += 1,
            other => println!("one was {other}"),
        }
    }
    println!("{} ended with 0, {} with 1, {} with 2", codes[0], codes[1], codes[2]);
    Ok(())
}
