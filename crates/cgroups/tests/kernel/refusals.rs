//! What a machine cannot do, said with the controller, the file, the value and the remedy.

use isolate_cgroups::{Availability, Bytes, Cgroup, Controller, Controllers, ErrorKind, Limits};
use testkit::{Need, kernel_test};

use crate::child::{Waiting, unique};

#[test]
fn a_hybrid_host_has_its_controllers_on_v1_and_freezes_and_kills_on_v2() {
    kernel_test(&[Need::Root, Need::CgroupV1], || {
        let controllers = Controllers::detect().unwrap();
        for controller in [Controller::Memory, Controller::Cpu, Controller::Pids] {
            assert_eq!(controllers.get(controller), Availability::V1);
            assert_eq!(controllers.remedy(controller).is_none(), cfg!(feature = "cgroup-v1"));
        }
        assert_eq!(controllers.get(Controller::Kill), Availability::V2);
        assert_eq!(controllers.get(Controller::Freezer), Availability::V2);
        assert_eq!(controllers.get(Controller::OomGroup), Availability::Missing);
    });
}

#[test]
fn a_unified_host_has_all_on_v2() {
    kernel_test(&[Need::Root, Need::Cgroup2, Need::Kernel(5, 14)], || {
        let controllers = Controllers::detect().unwrap();
        for controller in Controller::ALL {
            assert_eq!(controllers.get(controller), Availability::V2, "{controller}");
            assert_eq!(controllers.remedy(controller), None);
        }
    });
}

#[test]
fn killing_the_whole_group_on_a_hybrid_host_is_an_error_with_its_remedy() {
    kernel_test(&[Need::Root, Need::CgroupV1], || {
        let group = Cgroup::create(unique()).unwrap();
        let error = group.apply(&Limits::new().oom_group(true)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("memory"), "{error}");
        assert!(
            error.hint().is_some_and(|hint| hint.contains("systemd.unified_cgroup_hierarchy=1")),
            "{error:?}"
        );
    });
}

#[cfg(not(feature = "cgroup-v1"))]
#[test]
fn without_the_feature_a_limit_on_a_hybrid_host_is_an_error_with_its_remedy() {
    kernel_test(&[Need::Root, Need::CgroupV1], || {
        let group = Cgroup::create(unique()).unwrap();
        assert_eq!(group.paths().len(), 1);
        for (limits, name) in [
            (Limits::new().memory(Bytes::mib(8)), "memory"),
            (Limits::new().cpus(1.0), "cpu"),
            (Limits::new().pids(8), "pids"),
        ] {
            let error = group.apply(&limits).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(&format!("the {name} controller is on cgroup v1")), "{error}");
            let hint = error.hint().unwrap();
            assert!(
                hint.contains("feature `cgroup-v1`") && hint.contains("unified_cgroup_hierarchy=1"),
                "{hint}"
            );
        }
    });
}

#[cfg(feature = "cgroup-v1")]
#[test]
fn a_name_in_use_in_one_hierarchy_of_v1_leaves_nothing_in_the_others() {
    kernel_test(&[Need::Root, Need::CgroupV1], || {
        let name = unique();
        let paths = {
            let group = Cgroup::create(&name).unwrap();
            group.paths()
        };
        let taken = paths.last().unwrap();
        std::fs::create_dir(taken).unwrap();
        let error = Cgroup::create(&name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.to_string().contains(taken.to_str().unwrap()), "{error}");
        assert_eq!(paths.iter().filter(|path| path.exists()).collect::<Vec<_>>(), [taken]);
        std::fs::remove_dir(taken).unwrap();
    });
}

#[cfg(feature = "cgroup-v1")]
#[test]
fn a_process_that_is_in_one_hierarchy_of_v1_alone_does_not_keep_the_group() {
    kernel_test(&[Need::Root, Need::CgroupV1], || {
        let elsewhere = Cgroup::create(unique()).unwrap();
        let group = Cgroup::create(unique()).unwrap();
        let paths = group.paths();
        let stray = Waiting::in_group(&elsewhere, "");
        std::fs::write(paths[1].join("cgroup.procs"), stray.id().to_string()).unwrap();
        assert!(!group.populated().unwrap());
        group.remove().unwrap();
        assert!(paths.iter().all(|path| !path.exists()), "{paths:?}");
    });
}

#[cfg(feature = "cgroup-v1")]
#[test]
fn swap_without_memory_is_refused_where_the_kernel_limits_them_together() {
    kernel_test(&[Need::Root, Need::CgroupV1], || {
        let group = Cgroup::create(unique()).unwrap();
        let together = group.paths().iter().any(|path| path.join("memory.memsw.limit_in_bytes").exists());
        let error = group.apply(&Limits::new().swap(0)).unwrap_err();
        // Without swap accounting there is no limit to refuse: it is missing.
        let kind = if together { ErrorKind::InvalidInput } else { ErrorKind::Unsupported };
        assert_eq!(error.kind(), kind);
        assert!(!together || error.to_string().contains("swap 0 B"), "{error}");
    });
}

#[cfg(feature = "cgroup-v1")]
#[test]
fn a_limit_that_the_kernel_refuses_names_file_and_value() {
    kernel_test(&[Need::Root, Need::CgroupV1], || {
        let name = unique();
        let outer = Cgroup::create(&name).unwrap();
        outer.apply(&Limits::new().cpus(0.5)).unwrap();
        let inner = Cgroup::create(format!("{name}/inner")).unwrap();
        let error = inner.apply(&Limits::new().cpus(2.0)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(22));
        let text = error.to_string();
        assert!(text.contains("cpu limit: cannot write 200000 to "), "{text}");
        assert!(text.contains(&format!("{name}/inner/cpu.cfs_quota_us: Invalid argument")), "{text}");
        assert!(error.hint().is_some_and(|hint| hint.contains("group above")));
        inner.remove().unwrap();
    });
}

#[test]
fn the_whole_group_dies_of_memory_if_so_asked() {
    kernel_test(&[Need::Root, Need::Cgroup2], || {
        let group = Cgroup::create(unique()).unwrap();
        group.apply(&Limits::new().memory(Bytes::mib(16)).oom_group(true)).unwrap();
        let bystander = Waiting::in_group(&group, "");
        let greedy = Waiting::in_group(&group, "exec tail /dev/zero");
        assert!(!greedy.run().success());
        assert!(group.wait_empty(std::time::Duration::from_secs(10)).unwrap(), "the bystander too");
        assert!(group.stats().unwrap().memory.oom_kills.is_some_and(|kills| kills >= 2));
        drop(bystander);

        group.apply(&Limits::new().oom_group(false)).unwrap();
        let bystander = Waiting::in_group(&group, "");
        assert!(!Waiting::in_group(&group, "exec tail /dev/zero").run().success());
        assert!(bystander.run().success(), "and without, only who went too far");
    });
}

#[test]
fn a_parent_that_holds_processes_cannot_hand_controllers_down_and_says_so() {
    kernel_test(&[Need::Root, Need::Cgroup2], || {
        let name = unique();
        let outer = Cgroup::create(&name).unwrap();
        let _holder = Waiting::in_group(&outer, "");
        let inner = Cgroup::create(format!("{name}/inner")).unwrap();
        for limits in [Limits::new().memory(Bytes::mib(16)), Limits::new().pids(4), Limits::new().cpus(1.0)] {
            let error = inner.apply(&limits).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Busy);
            let text = error.to_string();
            assert!(
                text.contains("cannot write +") && text.ends_with("subtree_control: it holds processes"),
                "{text}"
            );
            assert!(error.hint().is_some_and(|hint| hint.contains("move those of ")), "{error:?}");
        }
        let kind = std::fs::read_to_string(outer.path().join("cgroup.type")).unwrap();
        assert_eq!(kind.trim(), "domain", "nor is it made the root of a threaded subtree");
        drop(Waiting::in_group(&inner, ""));
        inner.remove().unwrap();
        outer.remove().unwrap();
    });
}
