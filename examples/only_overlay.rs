//! `isolate-overlay` alone: a scratch copy of a tree, without copying.
use std::fs;

use isolate_overlay::Overlay;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = std::env::temp_dir().join(format!("overlay-{}", std::process::id()));
    for directory in ["upper", "work", "merged"] {
        fs::create_dir_all(place.join(directory))?;
    }
    let scratch = Overlay::on("/usr/share/doc")
        .layer("/etc")
        .writable(place.join("upper"), place.join("work"))
        .mount_at(place.join("merged"))?;

    fs::remove_file(scratch.path().join("passwd"))?;
    fs::write(scratch.path().join("note"), "only in upper")?;
    println!("{} entries are seen as one directory", fs::read_dir(scratch.path())?.count());
    scratch.unmount()?; // or drop it

    println!("/etc/passwd is still there: {}", fs::exists("/etc/passwd")?);
    println!("the note is in upper: {}", fs::exists(place.join("upper/note"))?);
    fs::remove_dir_all(&place)?;
    Ok(())
}
