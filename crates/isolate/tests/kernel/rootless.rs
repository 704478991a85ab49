//! Containers of an ordinary user: no root anywhere.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use isolate::{Attach, Bytes, ContainerBuilder, ErrorKind, Limits, Mount, Publish, Rootfs, UserNamespace};
use testkit::{Need, busybox_root, kernel_test, scratch};

use crate::common::{SERVER, get, printed, sh, until, wait_for};

/// One that no machine has.
const USER: u32 = 12_345;
/// Set for the user's own program: what it does.
const AS_USER: &str = "ISOLATE_TEST_AS_USER";
/// A directory of the user's own.
const HOME: &str = "ISOLATE_TEST_HOME";
const NEEDS: &[Need] =
    &[Need::Root, Need::Overlay, Need::UserNamespaces, Need::Program("busybox"), Need::Program("newuidmap")];

/// Runs this test's program again as an ordinary user: `part` names what it does there. Gives the user's directory.
fn as_user(test: &str, part: &str) -> PathBuf {
    as_user_in(test, part, None)
}

/// The same with the program in a control group, if one is named.
fn as_user_in(test: &str, part: &str, group: Option<&Path>) -> PathBuf {
    let home = scratch();
    chown(&home, Some(USER), Some(USER)).unwrap();
    let program = home.join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    // The way there may be root's only.
    for above in
        home.ancestors().skip(1).filter(|above| above.starts_with("/run") || above.starts_with("/tmp"))
    {
        let mode = fs::metadata(above).unwrap().mode() | 0o055;
        fs::set_permissions(above, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    // Waits for a line before it executes the program.
    let mut child = Command::new("/bin/sh")
        .args(["-c", "read go; exec \"$0\" \"$@\""])
        .arg(&program)
        .args(["--exact", test, "--nocapture"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("RUST_BACKTRACE", "0")
        .env(AS_USER, part)
        .env(HOME, &home)
        .env("XDG_RUNTIME_DIR", &home)
        .uid(USER)
        .gid(USER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if let Some(group) = group {
        fs::write(group.join("cgroup.procs"), child.id().to_string()).unwrap();
    }
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"go\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let shown = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{part}: {}\n{}", shown[0], shown[1]);
    home
}

/// A script on a root of the user's own: the host's need not be one that an overlay of an ordinary user can lie over.
fn on_own(home: &Path, script: &str) -> ContainerBuilder {
    let root = home.join("root");
    if !root.exists() {
        busybox_root(&root);
    }
    sh(script).rootfs(Rootfs::from(root))
}

fn part() -> Option<(String, PathBuf)> {
    Some((std::env::var(AS_USER).ok()?, std::env::var_os(HOME)?.into()))
}

#[test]
fn an_ordinary_user_has_containers_on_the_hosts_root() {
    if part().is_some() {
        assert_eq!(printed(sh("id -u; echo $$; hostname").name("box")), "0\n2\nbox\n");
        assert_eq!(
            printed(sh(
                "stat -f -c %T /proc; ls /dev | tr '\n' ' '; echo x > /dev/null; head -c 1 /dev/zero | wc -c"
            )),
            "proc\nconsole fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero 1\n"
        );
        assert_eq!(printed(sh("echo x > /tmp/new; mkdir /srv/d; cat /tmp/new; ls /srv")), "x\nd\n");
        // What belongs to nobody inside cannot be changed, not even in the copy.
        let usr = sh("touch /usr/bin/new").stderr(isolate::Stdio::null());
        assert!(!usr.status().unwrap().success());
        assert_eq!(printed(sh("ls /sys/class/net; cat /proc/net/route | wc -l")), "lo\n1\n");
        let here = fs::read_link("/proc/self/ns/net").unwrap();
        let there = printed(sh("readlink /proc/self/ns/net").network(Attach::host()));
        assert_eq!(there.trim(), here.to_str().unwrap());
        assert_eq!(
            printed(sh("readlink /proc/self/ns/user").user_namespace(UserNamespace::Required)).len(),
            "user:[4026531837]\n".len()
        );

        let container = sh("exec sleep 100").start().unwrap();
        let output =
            container.exec("sh").args(["-c", "id -u; grep -c . /proc/1/comm; pwd"]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "0\n1\n/\n");
        container.remove().unwrap();

        let mut container =
            sh("tty; stat -c %u $(tty)").terminal(isolate::WindowSize::default()).start().unwrap();
        let mut terminal = container.terminal.take().unwrap();
        let mut shown = String::new();
        std::io::Read::read_to_string(&mut terminal, &mut shown).unwrap();
        assert_eq!(shown, "/dev/pts/0\r\n0\r\n");
        container.remove().unwrap();
        return;
    }
    // In a virtual machine the host's root is an overlay over a network file system.
    let needs: Vec<Need> = NEEDS.iter().copied().chain([Need::Native]).collect();
    kernel_test(&needs, || {
        let home = as_user("rootless::an_ordinary_user_has_containers_on_the_hosts_root", "all");
        assert_eq!(fs::read_dir(home.join("isolate/containers")).unwrap().count(), 0, "nothing is left");
    });
}

#[test]
fn files_of_root_inside_are_the_users_outside() {
    if let Some((part, home)) = part() {
        let upper = home.join("upper");
        let root = || Rootfs::from(home.join("root")).upper(&upper);
        let sh = |script: &str| on_own(&home, script);
        if part == "sub-ids" {
            let made =
                sh("echo x > /tmp/file; chown 33 /tmp/file; cat /proc/self/uid_map; id -G").rootfs(root());
            let shown = printed(made);
            assert_eq!(
                shown.split_whitespace().collect::<Vec<_>>()[3..6],
                ["1", "200000", "65535"],
                "{shown}"
            );
        } else {
            printed(sh("echo x > /tmp/file").rootfs(root()));
            assert!(
                !sh("chown 33 /tmp/file")
                    .rootfs(root())
                    .stderr(isolate::Stdio::null())
                    .status()
                    .unwrap()
                    .success()
            );
        }
        let volume = Mount::bind(&home, "/mnt");
        printed(sh("echo y > /mnt/written").mount(volume));
        return;
    }
    let test = "rootless::files_of_root_inside_are_the_users_outside";
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    kernel_test(NEEDS, || {
        let home = as_user(test, "own id");
        assert_eq!(owner(&home.join("upper/tmp/file")), USER);
        assert_eq!(owner(&home.join("written")), USER);
        // Of the world's own mounts: an /etc that can be written, and is nobody else's.
        let over = scratch();
        for name in ["upper", "work"] {
            fs::create_dir(over.join(name)).unwrap();
        }
        let options = format!("lowerdir=/etc,upperdir={0}/upper,workdir={0}/work", over.display());
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount(
            "overlay",
            "/etc",
            "overlay",
            rustix::mount::MountFlags::empty(),
            Some(options.as_c_str()),
        )
        .unwrap();
        for name in ["subuid", "subgid"] {
            fs::write(Path::new("/etc").join(name), format!("{USER}:200000:65536\n")).unwrap();
        }
        // The helper wants to know the user.
        fs::write("/etc/passwd", format!("root:x:0:0::/root:/bin/sh\nuser:x:{USER}:{USER}::/:/bin/sh\n"))
            .unwrap();
        let home = as_user(test, "sub-ids");
        assert_eq!(owner(&home.join("upper/tmp/file")), 200_000 + 32);
        rustix::mount::unmount("/etc", rustix::mount::UnmountFlags::DETACH).unwrap();
    });
}

#[test]
fn what_an_ordinary_user_lacks_is_named_with_its_remedy() {
    if let Some((_, home)) = part() {
        let sh = |script: &str| on_own(&home, script);
        let error = sh("true").limits(Limits::new().memory(Bytes::mib(64))).start().map(drop).unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("Delegate=yes")), "{error:?}");
        let error = sh("true").network(Attach::bridge()).publish((9000, 8080)).start().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.hint().is_some_and(|hint| hint.contains("Attach::pasta()")), "{error:?}");
        let error = sh("true").user_namespace(UserNamespace::Host).start().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let error = isolate::Pod::builder().start().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.hint().is_some_and(|hint| hint.contains("run as root")), "{error:?}");
        let container = sh("exec sleep 100").start().unwrap();
        if container.cgroup().is_none() {
            let error = container.pause().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.hint().is_some(), "{error:?}");
        }
        container.remove().unwrap();
        let host = isolate::Host::check();
        assert!(
            host.findings().iter().any(|finding| finding.what() == "user namespaces" && finding.is_found()),
            "{host}"
        );
        for named in ["sub-ids", "control group of its own", "pasta"] {
            let finding = host.findings().iter().find(|finding| finding.what() == named).unwrap();
            assert!(finding.is_found() || finding.remedy().is_some(), "{host}");
        }
        return;
    }
    kernel_test(NEEDS, || {
        as_user("rootless::what_an_ordinary_user_lacks_is_named_with_its_remedy", "all");
    });
}

#[test]
fn limits_hold_where_a_control_group_is_delegated() {
    if let Some((part, home)) = part() {
        let sh = |script: &str| on_own(&home, script);
        let limits = Limits::new().memory(Bytes::mib(32)).pids(20);
        if part == "with processes" {
            let error = sh("true").limits(limits).start().map(drop).unwrap_err();
            assert!(
                error.hint().is_some_and(|hint| hint.contains("only a group without processes")),
                "{error:?}"
            );
            return;
        }
        let container = sh("exec sleep 100").limits(limits.clone()).start().unwrap();
        container.pause().unwrap();
        container.resume().unwrap();
        assert!(container.stats().unwrap().memory.limit.is_some());
        assert!(container.exec("true").status().unwrap().success());
        container.remove().unwrap();
        let eats = sh("x=0123456789abcdef; while :; do x=$x$x; done").limits(limits).run().unwrap();
        assert_eq!(eats.outcome, isolate::Outcome::OutOfMemory);
        return;
    }
    let needs = [NEEDS, &[Need::Cgroup2]].concat();
    kernel_test(&needs, || {
        let test = "rootless::limits_hold_where_a_control_group_is_delegated";
        let top = isolate::cgroups::Controllers::mount_point().unwrap();
        fs::write(top.join("cgroup.subtree_control"), "+memory +pids +cpu").unwrap();
        let delegated = |name: &str| {
            let directory = top.join(name);
            fs::create_dir(&directory).unwrap();
            for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
                chown(directory.join(file), Some(USER), Some(USER)).unwrap();
            }
            directory
        };
        let name = format!("delegated-{}", std::process::id());
        let groups =
            [name.clone(), format!("{name}/caller"), format!("{name}-full")].map(|name| delegated(&name));
        for (part, group) in [("below", &groups[1]), ("with processes", &groups[2])] {
            as_user_in(test, part, Some(group));
        }
        groups.iter().rev().for_each(|group| fs::remove_dir(group).unwrap());
    });
}

#[test]
fn a_published_port_of_an_ordinary_user_is_passed_on_by_pasta() {
    let local = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let pastas = || {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let names = all.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
        names.filter(|name| name.starts_with("pasta") || name.starts_with("passt")).count()
    };
    let test = "rootless::a_published_port_of_an_ordinary_user_is_passed_on_by_pasta";
    if part().is_some_and(|(part, _)| part == "owner") {
        let _container = sh(SERVER).publish((18082, 8080)).start().unwrap();
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    if part().is_some() {
        let publish = |port| Publish::tcp(port, 8080).on(Ipv4Addr::LOCALHOST);
        let container = sh(SERVER).name("web").publish(publish(18080)).start().unwrap();
        assert!(wait_for(local(18080)).ends_with("hello\n"));
        assert_eq!(container.published(), [publish(18080)]);
        assert_eq!(container.address(), None);
        assert_eq!(pastas(), 1);

        let error = sh("true").name("x").publish(publish(18080)).start().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        assert!(error.to_string().contains("container `web` has published it"), "{error:?}");
        let stranger = TcpListener::bind(local(0)).unwrap();
        let port = stranger.local_addr().unwrap().port();
        let error = sh("true").publish(publish(port)).start().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{error:?}");
        let error = sh("true").publish(publish(90)).start().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
        let error = sh("true").publish((0, 8080)).start().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert_eq!(pastas(), 1, "what failed has left none");

        let links = "ls /sys/class/net | tr '\\n' ' '; grep -c 'no network' /etc/resolv.conf || true";
        assert_eq!(printed(sh(links).network(Attach::pasta())), "eth0 lo 0\n");
        let asked = |host: &str, network| {
            let fetch = format!(
                "printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 2 {host} 18080 | tail -n 1 | grep . || echo none"
            );
            printed(sh(&fetch).network(network))
        };
        assert_eq!(asked("127.0.0.1", Attach::host()), "hello\n");
        for host in ["127.0.0.1", "192.0.2.1"] {
            assert_eq!(asked(host, Attach::pasta()), "none\n", "the host's loopback is not reached");
        }

        container.remove().unwrap();
        assert_eq!(get(local(18080)), None);
        assert_eq!(pastas(), 0);
        let error = sh("exec sleep 100").network(Attach::pasta()).start().unwrap().detach().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(pastas(), 0);

        let mut owner = Command::new(std::env::current_exe().unwrap());
        let mut owner = owner.args(["--exact", test]).env(AS_USER, "owner").spawn().unwrap();
        wait_for(local(18082));
        owner.kill().unwrap();
        owner.wait().unwrap();
        until(Duration::from_secs(5), || (pastas() == 0).then_some(())).expect("it ends with a killed owner");
        isolate::sweep().unwrap();
        return;
    }
    let needs = [NEEDS, &[Need::Program("pasta"), Need::Program("ip"), Need::Veth, Need::Native]].concat();
    kernel_test(&needs, || {
        let error = sh("true").network(Attach::pasta()).start().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "root has bridges");
        // A route that leads nowhere, and a device that every user may open: some machines have neither for all.
        let steps = [
            "link add out0 type veth peer name out1",
            "address add 192.0.2.2/24 dev out0",
            "link set out1 up",
            "link set out0 up",
            "route add default via 192.0.2.1",
        ];
        let ip = |step: &str| assert!(Command::new("ip").args(step.split(' ')).status().unwrap().success());
        steps.into_iter().for_each(ip);
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", "/dev/net", "tmpfs", flags, None).unwrap();
        let (mode, device) = (rustix::fs::Mode::from_raw_mode(0o666), rustix::fs::makedev(10, 200));
        let tun = "/dev/net/tun";
        rustix::fs::mknodat(rustix::fs::CWD, tun, rustix::fs::FileType::CharacterDevice, mode, device)
            .unwrap();
        fs::set_permissions(tun, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();

        let home = as_user(test, "all");
        assert_eq!(fs::read_dir(home.join("isolate/containers")).unwrap().count(), 0, "nothing is left");
        rustix::mount::unmount("/dev/net", rustix::mount::UnmountFlags::DETACH).unwrap();
        ip("link delete out0");
    });
}
