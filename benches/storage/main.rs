//! Layers: unpacked, mounted, walked and read, against `tar`, `umoci`, and bare system calls.
//!
//! `cargo bench --bench storage`, as root, with `tar` and `gzip`; against `umoci` where that is installed.
#![expect(clippy::disallowed_methods, reason = "a bench runs its peers")]

mod bare;

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use isolate_benches::figure::{self, Times, head};
use isolate_images::{Layout, Platform, Store, Unpack};
use isolate_overlay::Overlay;

/// Of files, before they are compressed.
const BYTES: u64 = 200 << 20;
const ROUNDS: usize = 7;
const LAYERS: usize = 50;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let place = Place::new()?;
    unpacking(&place)?;
    mounting(&place)?;
    reading(&place)
}

/// A directory on the disk, which goes in the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Result<Self> {
        let path = PathBuf::from(format!("/var/tmp/isolate-bench-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// What the machine has in /usr, as far as it goes; compressed, too.
fn archive(place: &Place) -> Result<[PathBuf; 2]> {
    let (list, archive) = (place.join("list"), place.join("layer.tar"));
    let (mut names, mut bytes) = (Vec::new(), 0);
    let mut todo: Vec<PathBuf> =
        ["lib", "share", "bin"].iter().map(|name| Path::new("/usr").join(name)).collect();
    while let Some(path) = todo.pop().filter(|_| bytes < BYTES) {
        let metadata = path.symlink_metadata()?;
        if metadata.is_dir() {
            let mut inner: Vec<PathBuf> = fs::read_dir(&path)?.flatten().map(|entry| entry.path()).collect();
            inner.sort();
            todo.extend(inner);
        } else if metadata.len() < BYTES / 10 {
            bytes += metadata.len();
        } else {
            continue;
        }
        names.extend(path.as_os_str().as_encoded_bytes());
        names.push(0);
    }
    fs::write(&list, names)?;
    let tar = ["--null", "--no-recursion", "-C", "/", "-cf"];
    run(Command::new("tar").args(tar).arg(&archive).arg("-T").arg(&list).stderr(Stdio::null()))?;
    run(Command::new("gzip").arg("-k").arg(&archive))?;
    Ok([archive, place.join("layer.tar.gz")])
}

fn unpacking(place: &Place) -> Result<()> {
    let [plain, archive] = archive(place)?;
    let umoci = layout(place, &plain)?;
    let (mut own, mut store, mut tar, mut gzip, mut peer) =
        (Times::default(), Times::default(), Times::default(), Times::default(), Times::default());
    for _ in 0..ROUNDS {
        fresh(place, |to| own.take(|| Ok(Unpack::into(to).read(File::open(&archive)?).map(drop)?)))?;
        fresh(place, |to| {
            tar.take(|| run(Command::new("tar").args(["--xattrs", "-xpzf"]).arg(&archive).arg("-C").arg(to)))
        })?;
        gzip.take(|| run(Command::new("gzip").arg("-dc").arg(&archive).stdout(Stdio::null())))?;
        if let Some(layout) = &umoci {
            let image = format!("{}:bench", layout.display());
            fresh(place, |to| {
                peer.take(|| {
                    run(Command::new("umoci").args(["unpack", "--image", &image]).arg(to.join("bundle")))
                })
            })?;
            fresh(place, |to| {
                let images = Store::open(to)?;
                let image = Layout::open(layout)?.image(None, &Platform::here())?;
                store.take(|| Ok(image.unpack(images.directory().join("layers")).map(drop)?))
            })?;
        }
    }
    head("a layer of 200 MB, gzip");
    gzip.print("gzip -dc, to nowhere");
    tar.print("tar -xz");
    own.print("isolate: Unpack");
    figure::print("unpack/tar", own.ratio(&tar), "x");
    figure::print("unpack/gzip", own.ratio(&gzip), "x");
    if umoci.is_some() {
        peer.print("umoci unpack");
        store.print("isolate: Image::unpack, on the disk");
        figure::print("unpack/umoci", own.ratio(&peer), "x");
        figure::print("image-unpack/umoci", store.ratio(&peer), "x");
    }
    Ok(())
}

/// The same as an image, if there is who makes one.
fn layout(place: &Place, archive: &Path) -> Result<Option<PathBuf>> {
    let layout = place.join("layout");
    let made = Command::new("umoci").args(["init", "--layout"]).arg(&layout).stderr(Stdio::null()).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("umoci is not installed");
        return Ok(None);
    }
    let image = format!("{}:bench", layout.display());
    run(Command::new("umoci").args(["new", "--image", &image]))?;
    run(Command::new("umoci").args(["raw", "add-layer", "--image", &image]).arg(archive))?;
    Ok(Some(layout))
}

/// Something in a directory that is empty, and is removed then, outside of the time that it takes.
fn fresh<T>(place: &Place, what: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let to = place.join("to");
    fs::create_dir(&to)?;
    std::os::unix::fs::chown(&to, Some(0), Some(0))?;
    let done = what(&to);
    fs::remove_dir_all(&to)?;
    rustix::fs::sync();
    done
}

fn mounting(place: &Place) -> Result<()> {
    let layers: Vec<PathBuf> = (0..LAYERS).map(|n| place.join(&format!("layer{n}"))).collect();
    for layer in layers.iter().chain([&place.join("upper"), &place.join("work")]) {
        fs::create_dir(layer)?;
    }
    let (upper, work) = (place.join("upper"), place.join("work"));
    let overlay = Overlay::on(&layers[0]).layers(&layers[1..]).writable(&upper, &work).volatile(true);
    let (mut own, mut limit) = (Times::default(), Times::default());
    for _ in 0..200 {
        drop(own.take(|| overlay.mount())?);
        again(&work)?;
        drop(limit.take(|| bare::mount(&layers, &upper, &work))?);
        again(&work)?;
    }
    head("an overlay of fifty layers");
    limit.print("limit: the bare calls");
    own.print("Overlay::mount");
    figure::print("mount-50/limit", own.ratio(&limit), "x");
    Ok(())
}

/// What says that the upper layer was not unmounted in order.
fn again(work: &Path) -> io::Result<()> {
    fs::remove_dir_all(work.join("work"))
}

fn reading(place: &Place) -> Result<()> {
    let (base, top) = (place.join("base"), place.join("top"));
    for (layer, first) in [(&base, 0), (&top, 1)] {
        for n in 0..200 {
            let directory = layer.join(format!("d{n}"));
            fs::create_dir_all(&directory)?;
            (0..20).try_for_each(|f| fs::write(directory.join(format!("{first}-{f}")), [0; 8000]))?;
        }
    }
    let merged = place.join("merged");
    fs::create_dir(&merged)?;
    let mounted = Overlay::on(&base).layer(&top).mount()?.attach(&merged)?;
    let (mut inside, mut outside) =
        ([Times::default(), Times::default()], [Times::default(), Times::default()]);
    for _ in 0..20 {
        for (n, contents) in [false, true].into_iter().enumerate() {
            inside[n].take(|| walk(&merged, contents))?;
            outside[n].take(|| walk(&base, contents).and_then(|()| walk(&top, contents)))?;
        }
    }
    mounted.unmount()?;
    head("8,000 files in 200 directories of two layers");
    for (n, what) in ["walk", "read"].into_iter().enumerate() {
        outside[n].print(&format!("{what}: the directories themselves"));
        inside[n].print(&format!("{what}: the overlay"));
        figure::print(&format!("{what}-inside/outside"), inside[n].ratio(&outside[n]), "x");
    }
    Ok(())
}

fn walk(directory: &Path, contents: bool) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.metadata()?.is_dir() {
            walk(&entry.path(), contents)?;
        } else if contents {
            let mut file = File::open(entry.path())?;
            while file.read(&mut buffer)? > 0 {}
        }
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}
