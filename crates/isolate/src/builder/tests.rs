//! A description that is written down and read again.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::*;
use crate::{
    Bandwidth, Bytes, Capabilities, Mount, Propagation, ResourceLimit, Scheduler, Seccomp, SeccompAction,
    User,
};

fn again(builder: &ContainerBuilder) -> ContainerBuilder {
    serde_json::from_str(&serde_json::to_string(builder).unwrap()).unwrap()
}

fn odd() -> OsString {
    OsString::from_vec(b"/a\xff\nb".to_vec())
}

#[test]
fn all_that_is_said_is_there_again() {
    let builder = Container::builder()
        .name("tomcat5")
        .rootfs(Rootfs::layers([odd(), "/b".into()]).upper("/c").on_disk(Bytes::gib(1)))
        .command(["sh".into(), odd()])
        .env("A", odd())
        .workdir("/srv")
        .hostname("h")
        .mount(Mount::bind(odd(), "/www").read_only().non_recursive().propagation(Propagation::Slave))
        .mount(Mount::tmpfs("/tmp").size(Bytes::mib(1)).inodes(9).mode(0o700).noexec())
        .mount(Mount::volume("data", "/data").no_copy())
        .mount(Mount::anonymous_volume("/more"))
        .limits(
            Limits::new().memory(Bytes::mib(512)).cpus(1.5).pids(9).io_max("/dev/sda", crate::IoMax::new()),
        )
        .network(Attach::named("web").address([10, 0, 0, 9]).mac([2, 0, 0, 0, 0, 1]).alias("a").priority(3))
        .network(Attach::bridge().bandwidth(Bandwidth::new().up(1_000_000)))
        .publish((9000, 8080))
        .publish("127.0.0.1:5353:53/udp".parse::<Publish>().unwrap())
        .terminal(WindowSize::new(24, 80))
        .init(false)
        .timeout(Duration::from_millis(1500))
        .namespace(Namespace::Ipc, Origin::host())
        .namespace(Namespace::Uts, Origin::path(odd()))
        .monotonic_offset(7, 8)
        .user_namespace(UserNamespace::Required)
        .user(User::named("www-data").groups(["adm", "7"]))
        .add_capabilities(Capabilities::NET_ADMIN)
        .seccomp(Seccomp::builder(SeccompAction::Allow).build().unwrap())
        .ulimit(crate::Resource::Nofile, ResourceLimit::new(9, ResourceLimit::INFINITY))
        .scheduler(Scheduler::Fifo(3))
        .cpu_affinity("0-1".parse().unwrap())
        .mask(odd())
        .sysctl("net.ipv4.ip_forward", "1")
        .device("/dev/fuse")
        .stop_signal(Signal::INT)
        .label("tier", "web")
        .pod("shop");
    assert_eq!(format!("{:?}", again(&builder)), format!("{builder:?}"));
}

#[test]
fn what_is_not_said_has_its_default() {
    let empty: ContainerBuilder = serde_json::from_str("{}").unwrap();
    assert_eq!(format!("{empty:?}"), format!("{:?}", Container::builder()));
    assert_eq!(format!("{:?}", again(&empty)), format!("{empty:?}"));
    let unconfined = Container::builder().seccomp_unconfined();
    assert!(again(&unconfined).confinement.seccomp.is_none());
}

#[test]
fn a_slip_is_an_error_and_so_is_what_cannot_be_written() {
    for (text, why) in [
        (r#"{"limit": {}}"#, "unknown field `limit`"),
        (r#"{"limits": {"memroy": 1}}"#, "unknown field `memroy`"),
        (r#"{"rootfs": {}}"#, "a root is one of"),
        (r#"{"rootfs": {"host": true, "writable": "/"}}"#, "a root is one of"),
        (r#"{"mounts": [{"what": "tmpfs", "target": "/t", "tmpfs": {"sise": 1}}]}"#, "unknown field `sise`"),
        (r#"{"confinement": {"capabilities": "NET_ADMIM"}}"#, "there is none of that name"),
        (r#"{"publish": ["9000:"]}"#, "port"),
    ] {
        let error = serde_json::from_str::<ContainerBuilder>(text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    let descriptor = std::fs::File::open("/proc/self/ns/ipc").unwrap();
    let builder = Container::builder().namespace(Namespace::Ipc, Origin::descriptor(descriptor));
    serde_json::to_string(&builder).unwrap_err();
}
