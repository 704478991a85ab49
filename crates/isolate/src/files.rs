//! The three files of `/etc` that are a container's own: hosts, hostname, resolv.conf.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use isolate_namespaces::Mount;

use crate::error::{Error, Result};
use crate::rootfs::Layout;

const NAMES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];
/// Where resolvers of the host are listed, best first: systemd-resolved's own list has no loopback address in it.
const RESOLVERS: [&str; 2] = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"];
/// Name servers that resolv.conf(5) may have (MAXNS).
const SERVERS: usize = 3;
/// How many symbolic links are followed (as path_resolution(7)).
const LINKS: usize = 40;

/// Writes them into the container's state directory; they belong to `owner`, or to the caller.
pub(crate) fn write(
    state: &Path,
    hostname: &str,
    hosts: String,
    resolv_conf: String,
    owner: Option<u32>,
) -> Result<()> {
    let host = NAMES.map(|file| state.join(file));
    let contents = [hosts, format!("{hostname}\n"), resolv_conf];
    for (path, content) in host.iter().zip(contents) {
        // Readable for all inside, whatever the caller's umask is.
        let written = fs::write(path, content)
            .and_then(|()| fs::set_permissions(path, PermissionsExt::from_mode(0o644)))
            .and_then(|()| std::os::unix::fs::chown(path, owner, owner));
        written.map_err(|e| Error::io(path.display(), &e))?;
    }
    Ok(())
}

/// Puts another text into one of them, which stays the file that is bound into the container.
pub(crate) fn rewrite(path: &Path, text: &str) -> Result<()> {
    let written = fs::OpenOptions::new().write(true).open(path).and_then(|mut file| {
        // Over the old text, so that no reader finds it empty.
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)
    });
    written.map_err(|e| Error::io(path.display(), &e))
}

/// Binds for them, where the root has a place: a link is followed inside the root, whether its target exists or not.
pub(crate) fn mounts(state: &Path, layout: &Layout) -> Vec<Mount> {
    let mut mounts = Vec::new();
    for name in NAMES {
        let target = resolve(&layout.layers, Path::new("/etc").join(name));
        let there = layout.layers.iter().any(|layer| below(layer, &target).exists());
        if there || layout.makes_mount_points {
            mounts.push(Mount::bind_file(state.join(name), target));
        }
    }
    mounts
}

/// The container itself.
pub(crate) fn hosts(hostname: &str, name: &str, addresses: &[IpAddr]) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    let names = if hostname == name { name.to_owned() } else { format!("{hostname} {name}") };
    if addresses.is_empty() {
        text += &format!("127.0.1.1 {names}\n");
    }
    addresses.iter().for_each(|address| text += &format!("{address} {names}\n"));
    text
}

/// The name servers of networks, with the host's search domains; without any, the host's resolvers but those on its own loopback, which
/// a container cannot reach.
pub(crate) fn resolv_conf(network: bool, servers: &[IpAddr]) -> String {
    if !network {
        return "# no network\n".to_owned();
    }
    let read = RESOLVERS.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    if servers.is_empty() {
        return filter_resolvers(&read);
    }
    let mut text: String =
        servers.iter().take(SERVERS).map(|server| format!("nameserver {server}\n")).collect();
    let kept = read
        .lines()
        .filter(|line| ["search ", "domain ", "options "].iter().any(|word| line.starts_with(word)));
    kept.for_each(|line| text += &format!("{line}\n"));
    // A name without a dot is asked for as it is first: it may be a container's.
    text + "options ndots:0\n"
}

/// The host's own, for who asks from the host.
pub(crate) fn resolvers() -> Vec<IpAddr> {
    let read = RESOLVERS.iter().rev().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    let address = |line: &str| line.strip_prefix("nameserver")?.trim().parse().ok();
    read.lines().filter_map(address).collect()
}

fn filter_resolvers(text: &str) -> String {
    let reachable = |line: &&str| {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("nameserver"), Some(address)) => !address.parse::<IpAddr>().is_ok_and(|a| a.is_loopback()),
            _ => true,
        }
    };
    text.lines().filter(reachable).map(|line| format!("{line}\n")).collect()
}

/// What a path in the root is once symbolic links in the topmost layer that has each part are followed.
fn resolve(layers: &[PathBuf], path: PathBuf) -> PathBuf {
    let mut path = path;
    for _ in 0..LINKS {
        let link = layers
            .iter()
            .find_map(|layer| fs::symlink_metadata(below(layer, &path)).ok().map(|m| (layer, m)));
        let Some((layer, metadata)) = link else { break };
        if !metadata.is_symlink() {
            break;
        }
        let Ok(to) = fs::read_link(below(layer, &path)) else { break };
        path = normal(&path.parent().unwrap_or(Path::new("/")).join(to));
    }
    path
}

fn below(layer: &Path, path: &Path) -> PathBuf {
    layer.join(path.strip_prefix("/").unwrap_or(path))
}

/// Without `.` and `..`; the root's parent is the root.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(part) => normal.push(part),
            Component::ParentDir => drop(normal.pop()),
            _ => {}
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_on_the_hosts_loopback_is_left_out() {
        let text = "search example.org\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.1\noptions ndots:1\n";
        assert_eq!(filter_resolvers(text), "search example.org\nnameserver 192.0.2.1\noptions ndots:1\n");
    }

    #[test]
    fn hosts_names_the_container_by_both_its_names() {
        let text = hosts("box", "tomcat5", &[[10, 0, 0, 2].into()]);
        assert!(text.ends_with("10.0.0.2 box tomcat5\n"), "{text}");
        assert!(hosts("a", "a", &[]).ends_with("127.0.1.1 a\n"));
    }

    #[test]
    fn a_link_is_followed_inside_the_root_also_when_it_leads_nowhere() {
        let base = std::env::temp_dir().join(format!("files-{}", std::process::id()));
        fs::create_dir_all(base.join("etc")).unwrap();
        std::os::unix::fs::symlink("../../run/resolv", base.join("etc/resolv.conf")).unwrap();
        let layers = [base.clone()];
        assert_eq!(resolve(&layers, "/etc/resolv.conf".into()), Path::new("/run/resolv"));
        assert_eq!(resolve(&layers, "/etc/hosts".into()), Path::new("/etc/hosts"));
        fs::remove_dir_all(&base).unwrap();
    }
}
