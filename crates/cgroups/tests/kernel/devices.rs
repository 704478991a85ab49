//! A device that no rule allows is refused, to root too.

use std::fs;

use isolate_cgroups::{Cgroup, DeviceRule, ErrorKind};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use testkit::{Need, kernel_test};

use crate::child::{Waiting, unique};

#[test]
fn what_no_rule_allows_can_neither_be_opened_nor_made() {
    kernel_test(&[Need::Root], || {
        // The test's own places take no devices.
        let place = std::path::Path::new("/var/tmp").join(unique());
        fs::create_dir(&place).unwrap();
        let nodes = [("null", 1, 3), ("kmsg", 1, 11), ("urandom", 1, 9)];
        for (name, major, minor) in nodes {
            let mode = Mode::from_raw_mode(0o666);
            mknodat(CWD, place.join(name), FileType::CharacterDevice, mode, makedev(major, minor)).unwrap();
        }
        let opens = |group: &Cgroup, name: &str, how: &str| {
            let script = format!("( : {how} {}/{name} )", place.display());
            Waiting::in_group(group, &script).run().success()
        };
        let makes = |group: &Cgroup| {
            let made = place.join("made");
            let status = Waiting::in_group(group, &format!("mknod {} c 1 3", made.display())).run();
            fs::remove_file(made).ok();
            status.success()
        };
        let group = Cgroup::create(unique()).unwrap();
        assert!(opens(&group, "kmsg", "<") && makes(&group), "the control: without rules everything");

        group.allow_devices(&DeviceRule::container().map(DeviceRule::without_mknod)).unwrap();
        assert!(opens(&group, "null", ">") && opens(&group, "urandom", "<"));
        assert!(!opens(&group, "kmsg", "<"), "no rule");
        assert!(!makes(&group), "not even one that may be used");

        group.allow_devices(&[DeviceRule::character(1, 11).read_only()]).unwrap();
        assert!(opens(&group, "kmsg", "<") && !opens(&group, "kmsg", ">"), "replaced, and to be read alone");
        assert!(!opens(&group, "null", ">"));
        let error = group.allow_devices(&[DeviceRule::character(1, 3); 401]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        group.remove().unwrap();
        fs::remove_dir_all(&place).unwrap();
    });
}
