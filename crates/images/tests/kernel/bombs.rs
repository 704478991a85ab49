//! Small archives that want to be large.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use flate2::{Compression, write::GzEncoder};
use isolate_images::{ErrorKind, Unpack};
use testkit::{Need, kernel_test, scratch};

use crate::archive::Tar;

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The most memory that this process had, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn a_bomb_ends_within_two_seconds_and_64_mib() {
    kernel_test(&[Need::Root, Need::Native], || {
        // 16 GiB of zeros in one file: a header, and members of 64 MiB each.
        let header = Tar::new()
            .entry(tar::EntryType::Regular, "zeros", "", b"", |header| header.set_size(16 << 30))
            .unended();
        let member = gzip(&vec![0; 64 << 20]);
        let zeros = [gzip(&header), member.repeat(256)].concat();
        let entries = gzip(&Tar::new().file("a/b", b"").unended().repeat(1 << 17)).repeat(64);
        let frame = ruzstd::encoding::compress_to_vec(
            &vec![0; 64 << 20][..],
            ruzstd::encoding::CompressionLevel::Fastest,
        );
        let zstd = [
            ruzstd::encoding::compress_to_vec(&header[..], ruzstd::encoding::CompressionLevel::Fastest),
            frame.repeat(256),
        ]
        .concat();
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = peak();
        for (name, bomb) in [("zeros", zeros), ("entries", entries), ("zstd", zstd)] {
            let start = Instant::now();
            let error = Unpack::into(scratch()).read(&bomb[..]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{name}: {error}");
            assert!(start.elapsed() < Duration::from_secs(2), "{name}: {:?}", start.elapsed());
        }
        let now = peak();
        assert!(now < before + (64 << 20), "{} MiB", (now - before) >> 20);
    });
}
