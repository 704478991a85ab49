//! What containers there are, as any process sees it.

use std::time::{Duration, Instant};

use isolate::{Attach, Bytes, Container, ContainerInfo, ErrorKind, Limits, Mount, MountKind, Network, State};
use testkit::kernel_test;

use crate::common::{NEEDS, NET, sh};

fn eventually(name: &str, state: State) -> ContainerInfo {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let info = Container::find(name).unwrap();
        if info.state == state || Instant::now() > end {
            assert_eq!(info.state, state);
            return info;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_a_container_is_can_be_read_by_its_name() {
    kernel_test(NET, || {
        let web = Network::create("web").unwrap();
        let container = sh("sleep 100")
            .name("sn1")
            .network(Attach::to(&web).alias("db"))
            .publish((9000, 8080))
            .limits(Limits::new().memory(Bytes::mib(64)))
            .label("tier", "web")
            .mount(Mount::bind("/usr", "/in").read_only().noexec())
            .mount(Mount::tmpfs("/t").size(Bytes::mib(1)).mode(0o700))
            .mount(Mount::volume("data", "/data"))
            .start()
            .unwrap();
        let info = container.inspect().unwrap();
        assert_eq!((info.name.as_str(), info.state), ("sn1", State::Running));
        assert_eq!(info.pid, Some(container.pid()));
        assert_eq!(info.command, ["/bin/sh", "-c", "sleep 100"]);
        assert_eq!(info.labels["tier"], "web");
        assert_eq!(info.published, container.published());
        assert_eq!(info.limits, Limits::new().memory(Bytes::mib(64)).pids(4096));
        let place = &info.networks["web"];
        assert_eq!((place.interface.as_str(), &place.aliases), ("eth0", &vec!["db".to_owned()]));
        assert_eq!(place.addresses, container.addresses());
        let [bind, tmpfs, volume] = &info.mounts[..] else { panic!("{:?}", info.mounts) };
        assert_eq!((bind.kind, bind.source.as_deref()), (MountKind::Bind, Some("/usr".as_ref())));
        assert_eq!(
            (bind.target.as_path(), &bind.options[..]),
            ("/in".as_ref(), &["ro", "noexec"].map(str::to_owned)[..])
        );
        assert_eq!((tmpfs.kind, &tmpfs.source), (MountKind::Tmpfs, &None));
        assert_eq!(tmpfs.options, ["size=1048576", "mode=700"]);
        assert_eq!((volume.kind, volume.volume.as_deref()), (MountKind::Volume, Some("data")));
        assert_eq!(volume.source, Some(isolate::Volume::open("data").unwrap().path()));
        let json = serde_json::to_value(web.inspect().unwrap()).unwrap();
        assert_eq!(
            (&json["driver"], &json["containers"]["sn1"]),
            (&"bridge".into(), &serde_json::to_value(container.addresses()).unwrap())
        );
        let json: serde_json::Value = serde_json::to_value(&info).unwrap();
        assert_eq!(json["state"], "running");
        assert_eq!(json["limits"]["memory"], 64 << 20);
        container.pause().unwrap();
        assert_eq!(container.inspect().unwrap().state, State::Paused);
        container.resume().unwrap();
        assert_eq!(container.inspect().unwrap().state, State::Running);
        container.remove().unwrap();
        let error = Container::find("sn1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.to_string(), "container `sn1`: there is none of that name");
        isolate::Volume::open("data").unwrap().remove().unwrap();
    });
}

#[test]
fn all_are_listed_and_what_has_ended_until_it_is_swept() {
    kernel_test(NEEDS, || {
        assert_eq!(Container::list().unwrap(), []);
        let b = sh("sleep 100").name("b").start().unwrap();
        let a = sh("read x").name("a").stdin(isolate::Stdio::piped()).start().unwrap();
        let names = || Container::list().unwrap().into_iter().map(|info| info.name).collect::<Vec<_>>();
        assert_eq!(names(), ["a", "b"]);
        let mut a = a;
        let stdin = a.stdin.take();
        a.detach().unwrap();
        assert_eq!(Container::find("a").unwrap().state, State::Running, "its monitor owns it");
        drop(stdin);
        let info = eventually("a", State::Ended);
        assert_eq!((info.pid, info.command[0].to_str()), (None, Some("/bin/sh")));
        isolate::sweep().unwrap();
        assert_eq!(names(), ["b"]);
        b.remove().unwrap();
        // The next start reaps what was detached.
        sh("true").status().unwrap();
        assert_eq!(Container::list().unwrap(), []);
    });
}
