//! `docker run -p 9000:8080 --name tomcat5 tomcat`, as a program: a web server in a container with its own namespaces, on an
//! overlay root, under limits, on a bridge with an address of its own, behind a published port.
//!
//! ```text
//! cargo run --example tomcat [-- --once] [--port N] [--rootfs DIR] [--image IMAGE]
//! ```
//! Tomcat itself runs where a root file system or an image with it is given, or where Tomcat 10 is installed; else a small HTTP server that this
//! program carries: the container executes this very program, bound into it.

mod fetch;
mod image;
mod observe;
mod options;
mod server;
mod signals;

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use isolate::{Bytes, Container, ContainerBuilder, Limits, Mount, Rootfs};
use options::Options;

/// Where this program is seen inside.
const SERVER: &str = "/srv/server";
const CATALINA: &str = "usr/share/tomcat10/bin/catalina.sh";
/// How long the web server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse(std::env::args().skip(1))?;
    if options.serve {
        return server::serve();
    }
    // Before anything is started: Ctrl-C is then waited for, and ends this program in an orderly way.
    let signals = signals::Signals::block()?;

    let mut tomcat = what_to_run(&options)?
        .name("tomcat5")
        .limits(Limits::new().memory(Bytes::mib(512)).cpus(1.0).pids(256))
        .publish((options.port, 8080)) // host first, as in -p 9000:8080
        .start()?;

    let port = tomcat.published().first().map_or(options.port, |publish| publish.host_port());
    observe::print(&tomcat)?;
    let answer = fetch::retry(port, PATIENCE, || tomcat.try_wait().map(|ended| ended.is_some()))?;
    println!("\nhttp://127.0.0.1:{port}/ answers:\n  {}\n  title: {}", answer.status, answer.title);
    observe::usage(&tomcat)?;

    if !options.once {
        println!("\nCtrl-C ends it.");
        signals.wait_for_signal_or_end(&tomcat)?;
    }
    let status = tomcat.stop(Duration::from_secs(10))?; // SIGTERM, then SIGKILL
    tomcat.remove()?; // or just drop it
    println!("ended with {status}; nothing is left.");
    Ok(())
}

fn what_to_run(options: &Options) -> Result<ContainerBuilder, Box<dyn Error>> {
    let container = Container::builder();
    if let Some(image) = &options.image {
        image::pull(image)?;
        // What to execute, as whom, and where, the image says.
        return Ok(container.rootfs(Rootfs::image(image)));
    }
    if let Some(root) = &options.rootfs {
        if !root.join(CATALINA).exists() {
            return Err(format!("{}: no {CATALINA} in it", root.display()).into());
        }
        println!("Tomcat from {}", root.display());
        return Ok(catalina(container.rootfs(root.as_path())));
    }
    if Path::new("/").join(CATALINA).exists() {
        println!("Tomcat from this machine's own /usr");
        let host = ["/etc/tomcat10", "/var/lib/tomcat10", "/var/log/tomcat10", "/var/cache/tomcat10"];
        let there = host.iter().filter(|path| Path::new(path).exists());
        return Ok(catalina(container.rootfs(there.fold(Rootfs::host(), Rootfs::with))));
    }
    println!("no Tomcat on this machine: a small HTTP server instead");
    let this = std::env::current_exe()?;
    Ok(container.mount(Mount::bind(this, SERVER).read_only()).command([SERVER, "--serve"]))
}

fn catalina(container: ContainerBuilder) -> ContainerBuilder {
    container
        .env("CATALINA_HOME", "/usr/share/tomcat10")
        .env("CATALINA_BASE", "/var/lib/tomcat10")
        .command([Path::new("/").join(CATALINA).as_os_str(), "run".as_ref()])
}
