//! A test fixture: a web server in a container, on a port of the host that the kernel picks.
use std::error::Error;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use isolate::{Container, Publish, Rootfs};

struct Service {
    container: Container,
    port: u16,
}

impl Service {
    fn start(page: &str) -> Result<Service, Box<dyn Error>> {
        let container = Container::builder()
            .rootfs(Rootfs::host())
            .env("PAGE", page)
            .publish(Publish::tcp(0, 8080).on(Ipv4Addr::LOCALHOST))
            .command(["sh", "-c", "echo \"$PAGE\" >/tmp/index.html; busybox httpd -f -p 8080 -h /tmp"])
            .start()?;
        let mut service = Service { port: container.published()[0].host_port(), container };
        let until = Instant::now() + Duration::from_secs(10);
        while let Err(error) = service.get("/") {
            if service.container.try_wait()?.is_some() || Instant::now() > until {
                return Err(format!("no answer: {error}").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(service)
    }

    fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        std::io::read_to_string(stream)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The container's own drop removes it.
        println!("stopped: {:?}", self.container.stop(Duration::from_secs(1)));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let service = Service::start("it works")?;
    println!("{}", service.get("/")?);
    let port = service.port;
    // A test that fails takes its service along.
    let test = thread::spawn(move || assert!(service.get("/").is_err(), "as intended"));
    println!("the test failed: {}", test.join().is_err());
    let free = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err();
    println!("port {port} is free: {free}; left: {:?}", Container::list()?);
    Ok(())
}
