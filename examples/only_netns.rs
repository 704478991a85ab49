//! `isolate-netns` alone: a bridge, a namespace, a listener inside and a port outside.
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use isolate_netns::{Bridge, NetworkNamespace, Publish};

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // All of it in a namespace of its own: the host's network is not touched.
    NetworkNamespace::new()?.run(|| {
        NetworkNamespace::current()?.loopback_up()?;
        let bridge = Bridge::create("demo0", "10.77.0.1/24".parse()?)?;

        let namespace = NetworkNamespace::new()?;
        let port = bridge.connect(&namespace, Ipv4Addr::new(10, 77, 0, 2), "eth0")?;
        port.publish(Publish::tcp(9000, 8080).on(Ipv4Addr::LOCALHOST))?;

        let inside = namespace.run(|| TcpListener::bind("0.0.0.0:8080"))??;
        let mut client = TcpStream::connect("127.0.0.1:9000")?;
        let (mut served, peer) = inside.accept()?;
        println!("{peer} came through");
        served.write_all(b"hello from the namespace")?;
        drop(served);
        let mut said = String::new();
        client.read_to_string(&mut said)?;
        println!("and was told: {said}");
        Ok(())
    })?
}
