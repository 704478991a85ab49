//! A test fixture: a service in a container, on a port that the kernel picks, for as long as a test lasts.
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use isolate::{Container, Publish};

/// Dropping it takes everything back, also when the test panics.
struct Service {
    container: Container,
}

impl Service {
    fn start() -> isolate::Result<Self> {
        let server =
            "mkdir /tmp/www; echo fixture > /tmp/www/index.html; exec busybox httpd -f -p 8080 -h /tmp/www";
        let port = Publish::tcp(0, 8080).on(Ipv4Addr::LOCALHOST); // 0: any that is free
        let container = Container::builder().publish(port).command(["/bin/sh", "-c", server]).start()?;
        Ok(Self { container })
    }

    fn port(&self) -> u16 {
        self.container.published()[0].host_port()
    }

    fn get(&self) -> std::io::Result<String> {
        let begun = Instant::now();
        loop {
            let mut text = String::new();
            let asked = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port())).and_then(|mut stream| {
                stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
                stream.read_to_string(&mut text)
            });
            match asked {
                Ok(length) if length > 0 => return Ok(text),
                Err(error) if begun.elapsed() > Duration::from_secs(10) => return Err(error),
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Two tests at once do not get in each other's way.
    let services = [Service::start()?, Service::start()?];
    assert_ne!(services[0].port(), services[1].port());
    for service in &services {
        println!("on port {}: {}", service.port(), service.get()?.lines().last().unwrap_or_default());
    }
    Ok(())
}
