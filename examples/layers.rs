//! A root of two layers, neither of which is ever written, and an upper one that keeps what the container writes.
use std::fs;

use isolate::{Container, Mount, Rootfs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = std::env::temp_dir().join(format!("layers-{}", std::process::id()));
    let (base, app, changes) = (place.join("base"), place.join("app"), place.join("changes"));
    for directory in ["base/usr", "base/proc", "base/sys", "base/dev", "app/srv"] {
        fs::create_dir_all(place.join(directory))?;
    }
    for link in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{link}"), base.join(link))?;
    }
    fs::write(app.join("srv/greeting"), "from the upper of the two layers\n")?;

    let output = Container::builder()
        .rootfs(Rootfs::layers([&base, &app]).upper(&changes))
        .mount(Mount::bind("/usr", "/usr").read_only())
        .command(["sh", "-c", "cat /srv/greeting; echo changed > /srv/greeting"])
        .output()?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    println!("the layer still says: {}", fs::read_to_string(app.join("srv/greeting"))?.trim());
    println!("what was written:     {}", fs::read_to_string(changes.join("srv/greeting"))?.trim());
    fs::remove_dir_all(&place)?;
    Ok(())
}
