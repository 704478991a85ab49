//! Who a program is, and what it may do.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use isolate_namespaces::{
    Capabilities, Command, CpuSet, ErrorKind, IdMap, Namespace, Resource, ResourceLimit, Seccomp,
};
use testkit::{Need, kernel_test, scratch};

const NEEDS: [Need; 1] = [Need::Root];

fn sh(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

fn text(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn status(key: &str) -> String {
    format!("grep -E '^({key}):' /proc/self/status | tr -s '\\t\\n ' ' '")
}

#[test]
fn user_groups_and_capabilities_are_those_that_were_asked_for() {
    kernel_test(&NEEDS, || {
        let show = status("Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs");
        let mut user = sh(&show);
        user.uid(1000).gid(1001).groups([7, 8]).capabilities(Capabilities::DEFAULT).no_new_privileges();
        let (none, kept) = ("0000000000000000", format!("{:016x}", Capabilities::DEFAULT.bits()));
        assert_eq!(
            text(&mut user),
            format!(
                "Uid: 1000 1000 1000 1000 Gid: 1001 1001 1001 1001 Groups: 7 8 CapInh: {none} CapPrm: {none} \
                 CapEff: {none} CapBnd: {kept} CapAmb: {none} NoNewPrivs: 1 "
            )
        );
        let mut root = sh(&status("CapPrm|CapEff|CapBnd|NoNewPrivs"));
        root.capabilities(Capabilities::KILL | Capabilities::CHOWN);
        let kept = "0000000000000021";
        assert_eq!(text(&mut root), format!("CapPrm: {kept} CapEff: {kept} CapBnd: {kept} NoNewPrivs: 0 "));
        // The control: who says nothing stays who it is.
        assert!(text(&mut sh(&status("Uid|CapAmb"))).starts_with("Uid: 0 0 0 0 "));
        for command in [sh("true").uid(u32::MAX), sh("true").groups([u32::MAX])] {
            assert_eq!(command.status().unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    });
}

#[test]
fn a_filter_holds_with_and_without_new_privileges() {
    kernel_test(&NEEDS, || {
        let place = scratch().join("new");
        let strict =
            Seccomp::default_profile_with().deny("mkdir", libc::EPERM).deny("mkdirat", libc::EPERM).build();
        let strict = strict.unwrap();
        let script =
            format!("mkdir {} 2>/dev/null && echo made; grep Seccomp: /proc/self/status", place.display());
        for no_new_privileges in [true, false] {
            let mut command = sh(&script);
            command.seccomp(&strict);
            if no_new_privileges {
                command.no_new_privileges();
            }
            assert_eq!(text(&mut command), "Seccomp:\t2\n");
        }
        assert_eq!(text(&mut sh(&script)), "made\nSeccomp:\t0\n", "the control");
    });
}

#[test]
fn limits_priorities_and_processors_are_set() {
    kernel_test(&NEEDS, || {
        let script = "ulimit -Sn; ulimit -Hn; ulimit -c; nice; cat /proc/self/oom_score_adj; \
                      grep Cpus_allowed_list /proc/self/status | cut -f2";
        let mut command = sh(script);
        command
            .limit(Resource::Nofile, ResourceLimit::new(50, 60))
            .limit(Resource::Core, ResourceLimit::new(0, 0))
            .nice(7)
            .oom_score_adj(500)
            .cpu_affinity(CpuSet::from_iter([0]));
        assert_eq!(text(&mut command), "50\n60\n0\n7\n500\n0\n");
        for command in [
            sh("true").nice(20),
            sh("true").oom_score_adj(1001),
            sh("true").limit(Resource::Nofile, ResourceLimit::new(61, 60)),
            sh("true").cpu_affinity(CpuSet::default()),
        ] {
            assert_eq!(command.status().unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    });
}

#[test]
fn a_range_of_ids_is_root_inside_and_nobody_special_outside() {
    kernel_test(&[Need::Root, Need::UserNamespaces], || {
        let file: PathBuf = scratch().join("file");
        let range = |first| IdMap::range(0, first, 65_536);
        let mut command = sh(&format!(
            "id -u; cat /proc/self/uid_map; echo x > {} 2>/dev/null || echo refused",
            file.display()
        ));
        command.unshare([Namespace::User]).uid_map(range(700_000)).gid_map(range(800_000)).uid(0).gid(0);
        let shown = text(&mut command);
        let words: Vec<_> = shown.split_whitespace().collect();
        assert_eq!(words, ["0", "0", "700000", "65536", "refused"], "root there is nobody here");
        command.uid(65_536);
        let error = command.status().unwrap_err();
        assert!(error.to_string().contains("user 65536"), "{error}");
    });
}
