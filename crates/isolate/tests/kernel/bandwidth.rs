//! How fast a container sends and receives.

use std::time::Duration;

use isolate::{Attach, Bandwidth, Container, Network};
use testkit::{Need, kernel_test};

use crate::common::{NET, idle, run, tried};

/// Bits a second that a program in the container sends to the host, or receives from it, over some two seconds.
fn speed(container: &Container, sends: bool) -> f64 {
    use std::io::{Read, Write};
    let gateway = tried(container, "ip route show default | cut -d' ' -f3").unwrap();
    let listener = std::net::TcpListener::bind((gateway.trim(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = match sends {
        true => format!("busybox nc {} {port} </dev/zero", gateway.trim()),
        false => format!("busybox nc {} {port} >/dev/null", gateway.trim()),
    };
    let mut child =
        container.exec("/bin/sh").args(["-c", &script]).stdin(isolate::Stdio::null()).spawn().unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut buffer = vec![0; 64 << 10];
    let mut pass = |limit: Duration| {
        let (start, mut bytes) = (std::time::Instant::now(), 0);
        while start.elapsed() < limit {
            bytes += if sends { stream.read(&mut buffer).unwrap() } else { stream.write(&buffer).unwrap() };
        }
        bytes as f64 * 8.0 / start.elapsed().as_secs_f64()
    };
    // What the buffers take, and the start of TCP, do not count.
    pass(Duration::from_millis(1500));
    let speed = pass(Duration::from_secs(3));
    drop(stream);
    child.kill().ok();
    child.wait().unwrap();
    speed
}

#[test]
fn a_bandwidth_holds_both_ways_and_is_changed_live() {
    kernel_test(&[NET, &[Need::Native]].concat(), || {
        let net = Network::builder("slow").host_services().create().unwrap();
        let bandwidth = Bandwidth::new().up(20_000_000).down(50_000_000);
        let container = idle("box").network(Attach::to(&net).bandwidth(bandwidth)).start().unwrap();
        // Once more, where the machine had other things to do.
        let holds = |up: f64, down: f64| {
            for (sends, wanted) in [(true, up), (false, down)] {
                let near = |speed: &f64| (wanted * 0.9..wanted * 1.1).contains(speed);
                let speeds: Vec<_> =
                    (0..4).map(|_| speed(&container, sends)).take_while(|s| !near(s)).collect();
                assert!(speeds.len() < 4, "{speeds:?} bit/s in place of {wanted}");
            }
        };
        holds(20e6, 50e6);
        container.limit_network("slow", Bandwidth::new().up(5_000_000).down(10_000_000)).unwrap();
        holds(5e6, 10e6);
        container.limit_network("slow", Bandwidth::new()).unwrap();
        let (up, down) = (speed(&container, true), speed(&container, false));
        assert!(up > 200e6 && down > 200e6, "{up} and {down} bit/s");
        assert!(!run("ip -o link").contains("isf"), "what held it back is gone");
        let [received, sent] = container.network_stats().unwrap()["slow"];
        assert!(received.bytes > 20_000_000 && sent.bytes > 20_000_000, "{received:?} {sent:?}");
        container.limit_network("slow", bandwidth).unwrap();
        container.remove().unwrap();
        assert!(!run("ip -o link").contains("isf"));
    });
}
