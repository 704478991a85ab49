//! Descriptions that several tests start from.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use isolate::{Container, ContainerBuilder};
use testkit::Need;

/// What a container without a network needs.
pub(crate) const NEEDS: &[Need] = &[Need::Root, Need::Overlay];
/// What one on a bridge needs.
pub(crate) const NET: &[Need] =
    &[Need::Root, Need::Overlay, Need::Veth, Need::NfTables, Need::Program("busybox")];
/// Answers `hello` on port 8080.
pub(crate) const SERVER: &str =
    "mkdir -p /tmp/www; echo hello > /tmp/www/index.html; exec busybox httpd -f -p 8080 -h /tmp/www";

pub(crate) fn sh(script: &str) -> ContainerBuilder {
    Container::builder().command(["/bin/sh", "-c", script])
}

/// What a script prints in a container of this description.
pub(crate) fn printed(container: ContainerBuilder) -> String {
    let output = container.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The first line and the body of what a web server at that address answers.
pub(crate) fn get(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text).filter(|text| !text.is_empty())
}

/// Asks until there is an answer: a server takes a moment to start.
pub(crate) fn wait_for(address: SocketAddr) -> String {
    until(Duration::from_secs(30), || get(address)).unwrap_or_else(|| panic!("no answer from {address}"))
}

pub(crate) fn until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        match look() {
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
            found => return found,
        }
    }
}
