//! Two containers on a network of their own find each other by name; a third shares the network of one of them.
use isolate::{Attach, Container, Network};

fn main() -> isolate::Result<()> {
    let backend = Network::builder("backend").internal().create()?;
    let server =
        "mkdir /tmp/www; echo hello from db > /tmp/www/index.html; exec busybox httpd -f -p 5432 -h /tmp/www";
    let db = Container::builder()
        .name("db")
        .network(Attach::to(&backend).alias("postgres"))
        .command(["/bin/sh", "-c", server])
        .start()?;
    println!("db has {:?}, and is found by {:?}", db.addresses(), backend.resolve("postgres")?);

    let ask = |whom: &str| {
        let fetch = format!("until busybox wget -q -O - http://{whom}:5432/index.html; do sleep 0.1; done");
        Container::builder().command(["/bin/sh", "-c", &fetch])
    };
    let by_name = ask("postgres").network(&backend).output()?;
    println!("by name: {}", String::from_utf8_lossy(&by_name.stdout).trim());
    let beside = ask("127.0.0.1").network(db.network()).output()?;
    println!("beside it: {}", String::from_utf8_lossy(&beside.stdout).trim());

    db.remove()?;
    backend.remove()
}
