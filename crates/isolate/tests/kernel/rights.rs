//! Limits and priorities of a container's programs, each read from the kernel.

use isolate::{CpuSet, IoPriority, Resource, ResourceLimit, Scheduler};
use testkit::{Need, kernel_test};

use crate::common::{OnDisk, printed};

const NEEDS: &[Need] = &[Need::Root, Need::Overlay, Need::Program("busybox")];

#[test]
fn limits_of_a_process_are_as_asked_and_the_defaults_are_there() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let show = "ulimit -c; ulimit -l; ulimit -n; ulimit -Hn";
        let set = disk.sh(show).ulimit(Resource::Nofile, ResourceLimit::new(100, 200));
        assert_eq!(printed(set), "0\n64\n100\n200\n");
        let own = printed(disk.sh("ulimit -Hn"));
        let more: u64 = own.trim().parse::<u64>().unwrap() + 1;
        let raised = disk.sh("ulimit -Hn").ulimit(Resource::Nofile, more).output();
        match raised {
            Ok(output) => assert_eq!(output.stdout, format!("{more}\n").as_bytes()),
            // Without CAP_SYS_RESOURCE.
            Err(error) => assert!(error.to_string().contains("raise the hard limit nofile"), "{error}"),
        }
        let error =
            disk.sh("true").ulimit(Resource::Nofile, ResourceLimit::new(5, 4)).start().map(drop).unwrap_err();
        assert!(error.to_string().contains("nofile"), "{error}");
    });
}

#[test]
fn priorities_are_as_asked() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let show = "cut -d' ' -f19,41 /proc/self/stat; grep Cpus_allowed_list /proc/self/status; cat /proc/self/oom_score_adj";
        let container = disk
            .sh(show)
            .nice(7)
            .scheduler(Scheduler::Batch)
            .io_priority(IoPriority::Idle)
            .cpu_affinity(CpuSet::from_iter([0]))
            .oom_score_adj(500);
        assert_eq!(printed(container), "7 3\nCpus_allowed_list:\t0\n500\n");
        assert!(printed(disk.sh(show)).starts_with("0 0\n"));
    });
}

#[test]
fn its_keyring_is_its_own() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        // /proc/keys shows those that the reader possesses: its session keyring.
        let shown = printed(disk.sh("cat /proc/keys; true").unmasked());
        let own = std::fs::read_to_string("/proc/keys").unwrap_or_default();
        for line in own.lines().filter(|line| line.contains("keyring")) {
            let id = line.split(' ').next().unwrap();
            assert!(!shown.contains(id), "{line} in {shown}");
        }
    });
}

#[cfg(feature = "landlock")]
#[test]
fn landlock_keeps_it_to_the_paths_that_are_named() {
    use isolate::{ErrorKind, Landlock};
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let script = "echo x > /tmp/file && echo wrote; echo x > /root/file && echo wrote more; cat /etc/group | wc -l";
        let quiet = |container: isolate::ContainerBuilder| container.stderr(isolate::Stdio::null());
        let rules = Landlock::new().execute("/bin").read_only("/etc").read_write("/tmp").read_write("/dev");
        match quiet(disk.sh(script).landlock(rules)).output() {
            Ok(output) => assert_eq!(output.stdout, b"wrote\n1\n"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "a kernel without it: {error}"),
        }
        assert_eq!(printed(quiet(disk.sh(script))), "wrote\nwrote more\n1\n");
    });
}
