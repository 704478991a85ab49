//! What a program sees in its namespaces.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use isolate_namespaces::{Command, ErrorKind, Filesystem, Mount, Namespace, Root, Stdio};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsmount, fsopen, move_mount,
};
use testkit::{Need, busybox_root, kernel_test, scratch};

const NEEDS: [Need; 2] = [Need::Root, Need::Program("busybox")];

fn root() -> PathBuf {
    let root = scratch().join("root");
    fs::create_dir(&root).unwrap();
    busybox_root(&root);
    root
}

fn contained(script: &str, root: impl Into<Root>) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).unshare(Namespace::CONTAINER).root(root);
    command.mount(Mount::proc()).mount(Mount::dev());
    command
}

fn text(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_namespace_asked_for_is_new_and_no_other() {
    kernel_test(&NEEDS, || {
        let root = root();
        let script =
            "for n in cgroup ipc mnt net pid time user uts; do echo $n $(readlink /proc/self/ns/$n); done";
        let inside = text(&mut contained(script, root.as_path()));
        for line in inside.lines() {
            let (kind, link) = line.split_once(' ').unwrap();
            let own = fs::read_link(format!("/proc/thread-self/ns/{kind}")).unwrap();
            assert_eq!(Path::new(link) == own, ["time", "user"].contains(&kind), "{line}");
        }
    });
}

#[test]
fn it_is_process_1_and_sees_only_its_own() {
    kernel_test(&NEEDS, || {
        let root = root();
        let seen = text(&mut contained("echo $$; ls /proc | grep -c '^[0-9]*$'", root.as_path()));
        let (pid, rest) = seen.split_once('\n').unwrap();
        assert_eq!(pid, "1");
        assert!(rest.trim().parse::<u32>().unwrap() <= 3, "the shell, ls and grep: {rest}");
    });
}

#[test]
fn of_the_old_root_nothing_is_mounted_any_more() {
    kernel_test(&NEEDS, || {
        let root = root();
        let mounts = |text: String| -> Vec<String> {
            text.lines().map(|line| line.split(' ').nth(4).unwrap().to_owned()).collect()
        };
        let script = "cat /proc/self/mountinfo";
        assert_eq!(mounts(text(&mut contained(script, root.as_path()))), ["/", "/proc", "/dev"]);

        let overlay =
            Filesystem::new("overlay").set("lowerdir", &root).set("upperdir", "upper").set("workdir", "work");
        let scratch = Filesystem::tmpfs().directory("upper", 0o755).directory("work", 0o700);
        let seen = text(contained(script, overlay).scratch(scratch));
        assert_eq!(mounts(seen), ["/", "/proc", "/dev"], "and of the scratch file system neither");
    });
}

#[test]
fn its_mounts_do_not_appear_outside_even_from_a_shared_tree() {
    kernel_test(&NEEDS, || {
        let root = root();
        rustix::mount::mount_bind(&root, &root).unwrap();
        rustix::mount::mount_change(&root, rustix::mount::MountPropagationFlags::SHARED).unwrap();
        let before = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        text(&mut contained("grep -q proc /proc/mounts", root.as_path()));
        assert_eq!(fs::read_to_string("/proc/thread-self/mountinfo").unwrap(), before);
        assert_eq!(fs::read_dir(root.join("proc")).unwrap().count(), 0);
        rustix::mount::unmount(&root, rustix::mount::UnmountFlags::DETACH).unwrap();
    });
}

#[test]
fn its_devices_are_six_nodes_and_its_own_terminals() {
    kernel_test(&NEEDS, || {
        let root = root();
        let mut command = contained(
            "ls /dev; echo x >/dev/null && head -c 4 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c; \
             test -c /dev/pts/ptmx && test -w /dev/shm && test -d /dev/mqueue; readlink /dev/stdin",
            root.as_path(),
        );
        command.mount(Mount::devpts()).mount(Mount::shm(1 << 20)).mount(Mount::mqueue());
        let seen = text(&mut command);
        let expected = "console fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero 4 5 /proc/self/fd/0";
        assert_eq!(seen.split_whitespace().collect::<Vec<_>>().join(" "), expected);
    });
}

#[test]
fn sysfs_and_read_only_binds_cannot_be_written_and_a_writable_bind_can() {
    kernel_test(&NEEDS, || {
        let (root, data) = (root(), scratch());
        fs::write(data.join("file"), "there").unwrap();
        let script = "cat /ro/file; for f in /sys/kernel/x /ro/new; do touch $f 2>/dev/null && echo wrote $f; done; touch /rw/new";
        let mut command = contained(script, root.as_path());
        command
            .mount(Mount::sysfs())
            .mount(Mount::bind(&data, "/ro").read_only())
            .mount(Mount::bind(&data, "/rw"));
        assert_eq!(text(&mut command), "there");
        assert!(data.join("new").exists(), "the positive control");
    });
}

#[test]
fn a_read_only_bind_is_read_only_in_the_mounts_below_it_too() {
    kernel_test(&NEEDS, || {
        let (root, data) = (root(), scratch());
        fs::create_dir(data.join("below")).unwrap();
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(detached_tmpfs(), "", rustix::fs::CWD, data.join("below"), flags).unwrap();
        let run = |mount: Mount| {
            text(contained("touch /data/below/new 2>/dev/null; echo $?", root.as_path()).mount(mount))
        };
        assert_eq!(run(Mount::bind(&data, "/data").read_only()), "1\n");
        assert_eq!(run(Mount::bind(&data, "/data")), "0\n", "the positive control");
        assert!(data.join("below/new").exists());
        rustix::mount::unmount(data.join("below"), rustix::mount::UnmountFlags::empty()).unwrap();
    });
}

#[test]
fn a_plan_with_a_detached_mount_is_carried_out_again_where_the_kernel_copies_one() {
    kernel_test(&[Need::Root, Need::Program("busybox"), Need::Kernel(6, 15)], || {
        let root = root();
        let mut command = contained("test ! -e /data/new && touch /data/new || echo again", root.as_path());
        let plan =
            command.mount(Mount::tree(detached_tmpfs(), "/data")).stdout(Stdio::piped()).plan().unwrap();
        let run = || String::from_utf8(plan.spawn().unwrap().wait_with_output().unwrap().stdout).unwrap();
        assert_eq!((run(), run()), (String::new(), "again\n".to_owned()), "both saw the same tmpfs");
    });
}

fn detached_tmpfs() -> OwnedFd {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_create(context.as_fd()).unwrap();
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap()
}

#[test]
fn a_read_only_root_is_never_written_not_even_for_mount_points() {
    kernel_test(&NEEDS, || {
        let root = root();
        let read_only = || Root::from(root.as_path()).read_only();
        let seen = text(&mut contained("touch /new 2>/dev/null || echo refused", read_only()));
        assert_eq!(seen, "refused\n");
        let error = contained("", read_only()).mount(Mount::tmpfs("/missing", 4096)).status().unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot open the mount point /missing: No such file or directory (os error 2)"
        );
        assert!(!root.join("missing").exists());
    });
}

#[test]
fn a_link_in_the_root_leads_neither_out_of_it_nor_below_a_built_in_mount() {
    kernel_test(&NEEDS, || {
        let (root, outside) = (root(), scratch());
        symlink(&outside, root.join("out")).unwrap();
        let error = contained("", root.as_path()).mount(Mount::tmpfs("/out", 1 << 20)).status().unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot open the mount point /out: No such file or directory (os error 2)"
        );
        fs::create_dir_all(root.join(outside.strip_prefix("/").unwrap())).unwrap();
        text(contained("touch /out/inside", root.as_path()).mount(Mount::tmpfs("/out", 1 << 20)));
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "the target was looked up inside the root");

        fs::remove_dir(root.join("proc")).unwrap();
        symlink("/tmp", root.join("proc")).unwrap();
        let error = contained("true", root.as_path()).status().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(40), "ELOOP: {error}");
    });
}

#[test]
fn a_single_file_is_bound_over_a_file_that_is_made_for_it() {
    kernel_test(&NEEDS, || {
        let (root, data) = (root(), scratch());
        fs::write(data.join("hosts"), "127.0.0.1 localhost\n").unwrap();
        let mut command = contained("cat /deep/er/hosts", root.as_path());
        command.mount(Mount::bind_file(data.join("hosts"), "/deep/er/hosts"));
        assert_eq!(text(&mut command), "127.0.0.1 localhost\n");
        assert_eq!(fs::metadata(root.join("deep/er/hosts")).unwrap().mode() & 0o777, 0o644);
        let error = contained("", root.as_path()).mount(Mount::bind("/no/such", "/x")).status().unwrap_err();
        assert_eq!(error.to_string(), "source of a mount /no/such: No such file or directory (os error 2)");
    });
}

#[test]
fn the_host_name_and_the_loopback_device_are_its_own() {
    kernel_test(&NEEDS, || {
        let root = root();
        let mut command =
            contained("hostname; ifconfig lo | grep -c UP; ifconfig -a | grep -c Link", root.as_path());
        assert_eq!(text(command.hostname("sandbox").loopback_up()), "sandbox\n1\n1\n");
        assert_ne!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), "sandbox\n");
    });
}

#[test]
fn no_descriptor_of_the_callers_is_inherited_and_no_signal_is_blocked_or_ignored() {
    kernel_test(&NEEDS, || {
        let root = root();
        let (reader, _writer) = std::io::pipe().unwrap();
        rustix::io::fcntl_setfd(&reader, rustix::io::FdFlags::empty()).unwrap();
        let run = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args).unshare(Namespace::CONTAINER).root(root.as_path()).mount(Mount::proc());
            text(&mut command)
        };
        assert_eq!(run("/bin/ls", &["/proc/self/fd"]), "0\n1\n2\n3\n", "3 is the directory that ls reads");
        let masks = run("/bin/grep", &["-E", "SigBlk|SigIgn", "/proc/self/status"]);
        assert!(masks.lines().all(|line| line.ends_with("\t0000000000000000")), "{masks}");
        let own = fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(!own.contains("SigIgn:\t0000000000000000"), "the positive control: Rust ignores SIGPIPE");
    });
}

#[test]
fn a_namespace_that_exists_can_be_joined() {
    kernel_test(&NEEDS, || {
        let mut other =
            Command::new("sleep").arg("100").unshare([Namespace::Uts]).hostname("joined").spawn().unwrap();
        let uts = fs::File::open(format!("/proc/{}/ns/uts", other.id())).unwrap();
        let mut command = Command::new("hostname");
        assert_eq!(text(command.join(uts)), "joined\n");
        let error = Command::new("true").join(fs::File::open("/etc/passwd").unwrap()).status().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(22));
        other.kill().unwrap();
        other.wait().unwrap();
    });
}

#[test]
fn root_in_a_user_namespace_of_its_own_is_root_inside() {
    kernel_test(&[Need::Root, Need::UserNamespaces], || {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "id -u; hostname"])
            .unshare([Namespace::User, Namespace::Uts])
            .hostname("sandbox");
        assert_eq!(text(&mut command), "0\nsandbox\n");
    });
}

#[test]
fn an_ordinary_user_needs_a_user_namespace_and_the_error_says_so() {
    kernel_test(&[Need::Root, Need::UserNamespaces], || {
        // Identity and capabilities belong to a thread: this one is thrown away.
        let [refused, inside] = std::thread::spawn(|| {
            let nobody = rustix::process::Gid::from_raw(65534);
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(nobody, nobody, nobody).unwrap();
            let nobody = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            let run = |kinds: &[Namespace]| {
                Command::new("/bin/sh").args(["-c", "id -u"]).unshare(kinds.iter().copied()).output()
            };
            [run(&[Namespace::Net]), run(&[Namespace::Net, Namespace::User])]
        })
        .join()
        .unwrap();
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.hint().unwrap().contains("new user namespace"), "{error:?}");
        assert_eq!(inside.unwrap().stdout, b"0\n");
    });
}
