//! What root inside may reach: other namespaces, kernel parameters, masked files, capabilities.

use std::time::Duration;

use isolate::cgroups::DeviceRule;
use isolate::{Capabilities, Namespace, Origin, Seccomp, Stdio, User, UserNamespace};
use testkit::{Need, kernel_test};

use crate::common::{OnDisk, printed, sh, until};

const NEEDS: &[Need] = &[Need::Root, Need::Overlay, Need::Program("busybox"), Need::Program("unshare")];

#[test]
fn a_user_namespace_to_mount_in_is_not_to_be_had() {
    kernel_test(NEEDS, || {
        // By a user: user 0 of a container may not be mapped without CAP_SETFCAP (user_namespaces(7)).
        let attempt = "unshare -U true 2>/dev/null && echo user; \
                       unshare -U -m -r sh -c 'mount -t tmpfs x /mnt && echo mounted' 2>/dev/null; echo done";
        let by_user = || sh(attempt).stderr(Stdio::null()).user(User::id_and_group(1000, 1000));
        assert_eq!(printed(sh(attempt).stderr(Stdio::null())), "done\n");
        assert_eq!(printed(by_user()), "done\n");
        assert_eq!(
            printed(by_user().seccomp_unconfined()),
            "user\nmounted\ndone\n",
            "without the filter it is"
        );
    });
}

/// Opens every regular file below some places for writing, and says which took it.
const WRITES: &str = "for d in /proc/sys /sys /proc/bus /proc/fs /proc/irq /proc/sysrq-trigger; do find $d -type f 2>/dev/null; done | \
     while read f; do ( : >> $f ) 2>/dev/null && echo $f; done; echo done";

#[test]
fn nothing_below_sys_and_proc_sys_can_be_written() {
    kernel_test(&[Need::Root, Need::Overlay, Need::Program("find"), Need::Native], || {
        assert_eq!(printed(sh(WRITES).stderr(Stdio::null())), "done\n");
        assert_eq!(printed(sh(WRITES).stderr(Stdio::null()).user_namespace(UserNamespace::Host)), "done\n");
        let below = WRITES
            .replace("/proc/sys /sys /proc/bus /proc/fs /proc/irq /proc/sysrq-trigger", "/proc/sys/kernel");
        let open = printed(sh(&below).stderr(Stdio::null()).unmasked());
        assert!(
            open.contains("/proc/sys/kernel/msgmax"),
            "without the read-only paths those of its own are: {open}"
        );
    });
}

#[test]
fn masked_files_are_empty_and_directories_too() {
    kernel_test(NEEDS, || {
        let look = "cat /proc/kallsyms /proc/interrupts /proc/timer_list /proc/keys 2>/dev/null | wc -c; \
                    ls /sys/firmware /sys/kernel/debug /sys/fs/bpf | grep -v : | wc -w; \
                    ( : > /proc/kcore ) 2>/dev/null; touch /sys/firmware/x 2>/dev/null || echo refused";
        let disk = OnDisk::root();
        let look_at = |container: isolate::ContainerBuilder| printed(container.stderr(Stdio::null()));
        assert_eq!(look_at(disk.sh(look)), "0\n0\nrefused\n");
        let open = look_at(disk.sh(look).unmasked().user_namespace(UserNamespace::Host));
        assert!(!open.starts_with("0\n"), "without masks there is something to read: {open}");
    });
}

#[test]
fn no_capability_is_inherited_in_start_and_exec_whoever_it_is() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let show = "grep -E '^Cap(Inh|Amb|Bnd|Eff)' /proc/self/status | cut -f2 | tr '\\n' ' '";
        let none = "0000000000000000";
        let default = "00000000000004fb"; // CHOWN to SETUID without the like of CAP_SETPCAP, and NET_BIND_SERVICE
        for (uid, effective) in [(0, default), (1, none), (1000, none), (65534, none)] {
            let expected = format!("{none} {effective} {default} {none} ");
            let user = || User::id_and_group(uid, uid);
            assert_eq!(printed(disk.sh(show).user(user())), expected, "{uid}");
            let container = disk.sh("exec sleep 100").start().unwrap();
            let output = container.exec("sh").args(["-c", show]).user(user()).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "exec as {uid}");
            container.remove().unwrap();
        }
        let more = printed(disk.sh(show).add_capabilities(Capabilities::NET_ADMIN));
        assert!(more.contains("00000000000014fb"), "what is asked for is there: {more}");
    });
}

#[test]
fn no_program_gains_rights_unless_that_is_allowed() {
    kernel_test(NEEDS, || {
        for (none, shown) in [(true, "1000\n"), (false, "0\n")] {
            let container = sh(
                "cp /usr/bin/id /usr/bin/id2; chmod 4755 /usr/bin/id2; echo x > /tmp/made; exec sleep 100",
            )
            .no_new_privileges(none)
            .start()
            .unwrap();
            until(Duration::from_secs(10), || {
                container.exec("cat").arg("/tmp/made").output().unwrap().status.success().then_some(())
            })
            .unwrap();
            let output =
                container.exec("id2").arg("-u").user(User::id_and_group(1000, 1000)).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), shown);
            container.remove().unwrap();
        }
    });
}

#[test]
fn a_filter_of_ones_own_and_none_are_as_asked() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let makes = || disk.sh("mkdir /tmp/x && echo made").stderr(Stdio::null());
        let strict =
            Seccomp::default_profile_with().deny("mkdir", libc::EPERM).deny("mkdirat", libc::EPERM).build();
        assert!(!makes().seccomp(strict.unwrap()).status().unwrap().success());
        assert_eq!(printed(makes()), "made\n");
        let mode = |container: isolate::ContainerBuilder| printed(container);
        assert_eq!(mode(disk.sh("grep Seccomp: /proc/self/status")), "Seccomp:\t2\n");
        assert_eq!(mode(disk.sh("grep Seccomp: /proc/self/status").seccomp_unconfined()), "Seccomp:\t0\n");
        let early = disk.sh("grep Seccomp: /proc/self/status").no_new_privileges(false);
        assert_eq!(mode(early), "Seccomp:\t2\n", "also where it is loaded before the rights go");
    });
}

#[test]
fn kernel_parameters_are_its_own_namespaces_or_an_error() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let show = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni";
        let set =
            disk.sh(show).sysctl("net.ipv4.ip_unprivileged_port_start", "80").sysctl("kernel.shmmni", "77");
        assert_eq!(printed(set.user_namespace(UserNamespace::Host)), "80\n77\n");
        let only_net = disk.sh(show).sysctl("net.ipv4.ip_unprivileged_port_start", "80");
        assert!(printed(only_net).starts_with("80\n"), "in a user namespace, too");
        for bad in ["kernel.core_pattern", "vm.swappiness", "kernel.hostname/../core_pattern", "net...x", ""]
        {
            disk.sh("true").sysctl(bad, "1").start().unwrap_err();
        }
        let shared =
            disk.sh("true").sysctl("net.ipv4.ip_forward", "1").namespace(Namespace::Net, Origin::host());
        assert!(shared.start().unwrap_err().to_string().contains("host's net namespace"));
    });
}

#[test]
fn a_device_that_is_nobodys_to_use_is_not_to_be_had_by_who_makes_it() {
    kernel_test(NEEDS, || {
        let container = sh("exec sleep 100")
            .capabilities(Capabilities::all())
            .seccomp_unconfined()
            .user_namespace(UserNamespace::Host)
            .start()
            .unwrap();
        let attempt = || {
            let script = "mknod /dev/new c 1 11 && head -c 0 /dev/new && echo opened; rm -f /dev/new; true";
            let output = container.exec("sh").args(["-c", script]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(attempt(), "");
        let own = "head -c 1 /dev/urandom | wc -c; : > /dev/null";
        assert_eq!(container.exec("sh").args(["-c", own]).output().unwrap().stdout, b"1\n");
        container.cgroup().unwrap().allow_devices(&[DeviceRule::character(None, None)]).unwrap();
        assert_eq!(attempt(), "opened\n", "without the filter it is");
        container.remove().unwrap();

        let given = sh("head -c 0 /dev/kmsg && echo opened")
            .device("/dev/kmsg")
            .user_namespace(UserNamespace::Host)
            .capabilities(Capabilities::all());
        assert_eq!(printed(given), "opened\n");

        // Where there can be no filter, nobody starts who could make any device.
        std::thread::scope(|scope| {
            let without = || {
                testkit::without_system_call(libc::SYS_bpf, libc::EPERM);
                let all = sh("true").capabilities(Capabilities::all());
                let error = all.clone().user_namespace(UserNamespace::Host).start().map(drop).unwrap_err();
                assert!(error.to_string().contains("devices: "), "{error}");
                assert!(error.hint().is_some_and(|hint| hint.contains("bpf(2)")), "{error:?}");
                sh("true").user_namespace(UserNamespace::Host).run().unwrap();
            };
            scope.spawn(without).join().unwrap();
        });
    });
}
