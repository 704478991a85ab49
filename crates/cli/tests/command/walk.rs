//! A walk from a registry to a page, as a person types it: pull, run at a terminal, start again, look, limit, connect.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testkit::{Need, kernel_test};

use crate::common::{command, isolate, until};
use crate::terminal;

const NEEDS: &[Need] = &[
    Need::Root,
    Need::Overlay,
    Need::Veth,
    Need::NfTables,
    Need::Image("tomcat"),
    Need::Program("docker-registry"),
    Need::Program("skopeo"),
    Need::Program("ping"),
    Need::Native,
];
const IMAGE: &str = "localhost:5000/tomcat:10";

/// A registry that has the image, until it is dropped.
struct Registry(Child);

impl Registry {
    fn start() -> Self {
        fs::create_dir("/run/registry").unwrap();
        let config = "version: 0.1\nstorage: {filesystem: {rootdirectory: /run/registry}}\nhttp: {addr: localhost:5000}\n";
        fs::write("/run/registry.yml", config).unwrap();
        let mut server = Command::new("docker-registry");
        server.args(["serve", "/run/registry.yml"]).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Self(server.spawn().unwrap());
        until(|| TcpStream::connect((Ipv4Addr::LOCALHOST, 5000)).ok());
        let from = format!("oci:{}:10", testkit::image("tomcat").unwrap().display());
        let to = format!("docker://{IMAGE}");
        let mut push = Command::new("skopeo");
        push.args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false", &from, &to]);
        assert!(push.status().unwrap().success());
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn page() -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 9000)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.starts_with("HTTP/1.1 200").then_some(text)
}

/// One line, in words that have no spaces of their own.
fn typed(line: &str) -> String {
    isolate(&line.split(' ').collect::<Vec<_>>()).well()
}

#[test]
fn from_a_registry_to_a_page_line_by_line() {
    kernel_test(NEEDS, || {
        let registry = Registry::start();
        let pulled = isolate(&["pull", IMAGE]);
        assert_eq!(pulled.code, 0, "{pulled:?}");
        drop(registry);
        typed(&format!("tag {IMAGE} tomcat"));

        // docker run -it -p 9000:8080 --name tomcat5 tomcat /bin/bash
        fs::create_dir("/run/pages").unwrap();
        fs::write("/run/pages/note", "from the host\n").unwrap();
        let (mut person, slave) = terminal::terminal();
        let side = || Stdio::from(slave.try_clone().unwrap());
        let line = "run -it -p 9000:8080 --name tomcat5 -v /run/pages:/pages --entrypoint /bin/bash tomcat";
        let words: Vec<&str> = line.split(' ').collect();
        let mut shell = command(&words).stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        terminal::until(&mut person, "tomcat@tomcat5:");
        person.write_all(b"ps -ef; cat /pages/note; echo kept > /tmp/kept\n").unwrap();
        let seen = terminal::until(&mut person, "from the host");
        assert!(seen.contains("/bin/bash") && !seen.contains("docker-registry"), "{seen}");
        // On the host it is a process as any other.
        assert!(typed("top tomcat5").contains("/bin/bash"));
        person.write_all(b"exit 0\n").unwrap();
        assert_eq!(shell.wait().unwrap().code(), Some(0));

        typed("start tomcat5");
        assert_eq!(typed("exec tomcat5 cat /tmp/kept"), "kept\n");
        fs::write("/run/pages/later", "at once\n").unwrap();
        assert_eq!(typed("exec tomcat5 cat /pages/later"), "at once\n");
        assert!(typed("exec tomcat5 ls /").lines().any(|name| name == "pages"));
        assert!(typed("inspect tomcat5").contains("\"running\""));
        typed("update -m 768m tomcat5");
        assert!(typed("stats --no-stream tomcat5").contains("768 MiB"));
        typed("pause tomcat5");
        assert!(typed("ps").contains("(Paused)"));
        typed("unpause tomcat5");

        let subnet = "--subnet=192.168.1.0/24 --ip-range=192.168.1.0/24 --gateway=192.168.1.1";
        typed(&format!("network create -d bridge {subnet} bridge2"));
        for name in ["sn1", "sn2"] {
            // The image has no ping.
            let ping = "-v /bin/ping:/usr/bin/ping:ro";
            typed(&format!("run -dit --network=bridge2 {ping} --name {name} --entrypoint /bin/bash tomcat"));
        }
        let pinged = typed("exec sn2 ping -c 1 sn1");
        assert!(
            pinged.contains("bytes from sn1 (192.168.1.") && pinged.contains("0% packet loss"),
            "{pinged}"
        );
        assert_eq!(isolate(&["exec", "tomcat5", "getent", "hosts", "sn1"]).code, 2, "no such name there");
        typed("network connect bridge2 tomcat5");
        assert!(typed("exec tomcat5 getent hosts sn1").starts_with("192.168.1."));

        let begun = isolate(&["exec", "tomcat5", "/usr/share/tomcat10/bin/catalina.sh", "start"]);
        assert_eq!(begun.code, 0, "{begun:?}");
        assert!(until(page).contains("Tomcat"));
        typed("rm -f tomcat5 sn1 sn2");
        typed("network rm bridge2");
        assert_eq!(typed("ps -aq"), "");
        for image in ["tomcat", IMAGE] {
            typed(&format!("rmi {image}"));
        }
        fs::remove_dir_all("/var/lib/isolate/images").unwrap();
    });
}
