//! A caller that may open a few more descriptors only: the kernel fails calls, and leaves out descriptors of messages.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use testkit::kernel_test;

use super::world::World;
use super::{FEW, NEEDS, owner_in};

#[test]
fn with_too_few_descriptors_a_start_is_an_error_and_hangs_never() {
    kernel_test(NEEDS, || {
        let world = World::new();
        let mut owner = owner_in(&world, FEW)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdout, mut stderr) = (owner.stdout.take().unwrap(), owner.stderr.take().unwrap());
        let pid = Pid::from_child(&owner);
        let (done, ended) = std::sync::mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            if ended.recv_timeout(Duration::from_secs(60)).is_err() {
                kill_process(pid, Signal::KILL).ok();
            }
        });
        let (mut printed, mut errors) = (String::new(), String::new());
        stdout.read_to_string(&mut printed).unwrap();
        stderr.read_to_string(&mut errors).unwrap();
        drop((stdout, stderr));
        let status = owner.wait().unwrap();
        done.send(()).ok();
        watch.join().unwrap();
        assert!(status.success(), "{status}: {printed} {errors}");
        assert!(!errors.contains("panicked"), "{errors}");
        let refused: Vec<_> = printed.lines().filter(|line| line.starts_with("error ")).collect();
        let named = format!("container `{}`", world.name);
        let unnamed: Vec<_> = refused.iter().filter(|line| !line.contains(&named)).collect();
        assert!(unnamed.is_empty(), "{unnamed:?}");
        let too_many = refused.iter().filter(|line| line.contains("Too many open files")).count();
        assert!(too_many > 10, "{refused:?}");
        assert!(printed.lines().any(|line| line.starts_with("ok ")), "{printed}");
        println!("{printed}");
        world.is_empty_after("few descriptors", true).unwrap();
    });
}
