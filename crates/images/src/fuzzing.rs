//! Doors for the fuzzer, which calls what is private. Not there without `--cfg fuzzing`.

use crate::archive::Archive;
use crate::bounds::Bounds;
use crate::decompress::Decompress;

/// A layer is read to its end, or an error.
pub fn layer(data: &[u8]) {
    let bounds = Bounds::new().bytes(1 << 20).entries(1000);
    let Ok(plain) = Decompress::new(data, bounds) else { return };
    let mut archive = Archive::new(plain, bounds);
    let mut buffer = [0; 4096];
    while let Ok(Some(entry)) = archive.next() {
        assert!(entry.path.len() <= 4096 && entry.link.len() <= 4096);
        while archive.read(&mut buffer).is_ok_and(|read| read > 0) {}
    }
}
