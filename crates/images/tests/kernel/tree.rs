//! A tree as it is seen, entry by entry.

use std::collections::BTreeMap;
use std::fs;
use std::hash::Hasher;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Everything below a directory: its path, and all that is to be equal.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let (mut seen, mut links) = (BTreeMap::new(), BTreeMap::new());
    walk(root, root, &mut seen, &mut links);
    for mut names in links.into_values() {
        names.sort();
        for name in &names {
            seen.get_mut(name).unwrap().push_str(&format!(" as {}", names[0].display()));
        }
    }
    seen
}

fn walk(
    root: &Path,
    path: &Path,
    seen: &mut BTreeMap<PathBuf, String>,
    links: &mut BTreeMap<u64, Vec<PathBuf>>,
) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let kind = metadata.file_type();
    let name = path.strip_prefix(root).unwrap().to_owned();
    let content = if kind.is_symlink() {
        fs::read_link(path).unwrap().as_os_str().as_bytes().escape_ascii().to_string()
    } else if kind.is_file() {
        if metadata.nlink() > 1 {
            links.entry(metadata.ino()).or_default().push(name.clone());
        }
        let bytes = fs::read(path).unwrap();
        format!("{} bytes {:x}", bytes.len(), hash(&bytes))
    } else if kind.is_char_device() || kind.is_block_device() {
        format!("device {:x}", metadata.rdev())
    } else {
        String::new()
    };
    let told = format!(
        "{:o} {}:{} {}.{:09} {content} {:?}",
        metadata.mode(),
        metadata.uid(),
        metadata.gid(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        xattrs(path),
    );
    seen.insert(name, told);
    if kind.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            walk(root, &entry.unwrap().path(), seen, links);
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap();
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let name = String::from_utf8(name.to_vec()).unwrap();
            let mut value = vec![0; 65536];
            let length = rustix::fs::lgetxattr(path, name.as_str(), &mut value).unwrap();
            value.truncate(length);
            (name, value)
        })
        .collect()
}

/// Good enough for what nobody attacks.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Without what no archive said: times of whiteouts and of a root that is not in it.
pub(crate) fn contents(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut tree = tree(root);
    tree.remove(Path::new(""));
    tree.retain(|_, entry| !entry.starts_with("20000"));
    tree
}
