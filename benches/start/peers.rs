//! Others that start a program in namespaces, where they are installed.

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};

use isolate_benches::figure::{self, Times, head};

use crate::limit::Limit;

const ROUNDS: usize = 50;

pub(crate) fn measure(root: &Path, limit: &Limit<'_>) -> Result<(), Box<dyn Error>> {
    head("peers, whole processes");
    let mut limits = Times::default();
    for _ in 0..ROUNDS {
        limits.take(|| limit.run())?;
        std::thread::sleep(crate::SPACE);
    }
    limits.print("limit");
    let root = root.to_str().ok_or("a root that is not UTF-8")?;
    let bubblewrap =
        ["bwrap", "--unshare-all", "--bind", root, "/", "--proc", "/proc", "--dev", "/dev", "/true"];
    let unshare = [
        "unshare", "--mount", "--pid", "--fork", "--ipc", "--uts", "--net", "--cgroup", "--root", root,
        "/true",
    ];
    for argv in [&bubblewrap[..], &unshare[..]] {
        peer(argv, &limits);
    }
    oci(Path::new(root), &limits)
}

/// OCI runtimes, each with the specification that it writes itself.
fn oci(root: &Path, limits: &Times) -> Result<(), Box<dyn Error>> {
    for runtime in ["crun", "runc"] {
        let bundle = root.with_extension(runtime);
        std::fs::create_dir_all(&bundle)?;
        if run(&[runtime, "spec", "--bundle", &bundle.to_string_lossy()]) {
            let config = bundle.join("config.json");
            let text = std::fs::read_to_string(&config)?;
            let text =
                text.replace("\"terminal\": true", "\"terminal\": false").replace("\"sh\"", "\"/true\"");
            let text = text.replace("\"path\": \"rootfs\"", &format!("\"path\": \"{}\"", root.display()));
            std::fs::write(&config, text)?;
            let (bundle, id) =
                (bundle.to_string_lossy().into_owned(), format!("bench-{}", std::process::id()));
            peer(&[runtime, "run", "--bundle", &bundle, &id], limits);
        } else {
            println!("{runtime:<34} not installed");
        }
        std::fs::remove_dir_all(&bundle)?;
    }
    Ok(())
}

fn peer(argv: &[&str], limits: &Times) {
    let name = argv[0];
    if !run(argv) {
        println!("{name:<34} not installed, or refused here");
        return;
    }
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        times.take(|| run(argv));
        std::thread::sleep(crate::SPACE);
    }
    times.print(name);
    figure::print(&format!("{name}/limit"), times.ratio(limits), "x");
}

#[expect(clippy::disallowed_methods, reason = "the peers are programs")]
fn run(argv: &[&str]) -> bool {
    let mut command = Command::new(argv[0]);
    command.args(&argv[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
