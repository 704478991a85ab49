//! The three files of `/etc` that are a container's own: hosts, hostname, resolv.conf.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use isolate_namespaces::Mount;

use crate::error::{Error, Result};
use crate::rootfs::Layout;

const NAMES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];
/// Where resolvers of the host are listed, best first: systemd-resolved's own list has no loopback address in it.
const RESOLVERS: [&str; 2] = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"];
/// How many symbolic links are followed (as path_resolution(7)).
const LINKS: usize = 40;

/// Writes them into the container's state directory; they belong to `owner`, or to the caller. `network`: whether resolvers can be
/// reached.
pub(crate) fn write(
    state: &Path,
    hostname: &str,
    name: &str,
    network: bool,
    address: Option<IpAddr>,
    owner: Option<u32>,
) -> Result<()> {
    let host = NAMES.map(|file| state.join(file));
    let contents = [hosts(hostname, name, address), format!("{hostname}\n"), resolv_conf(network)];
    for (path, content) in host.iter().zip(contents) {
        // Readable for all inside, whatever the caller's umask is.
        let written = fs::write(path, content)
            .and_then(|()| fs::set_permissions(path, PermissionsExt::from_mode(0o644)))
            .and_then(|()| std::os::unix::fs::chown(path, owner, owner));
        written.map_err(|e| Error::io(path.display(), &e))?;
    }
    Ok(())
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

fn hosts(hostname: &str, name: &str, address: Option<IpAddr>) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    let names = if hostname == name { name.to_owned() } else { format!("{hostname} {name}") };
    let address = address.map_or("127.0.1.1".to_owned(), |address| address.to_string());
    text += &format!("{address} {names}\n");
    text
}

/// The host's resolvers but those on its own loopback, which a container cannot reach.
fn resolv_conf(network: bool) -> String {
    if !network {
        return "# no network\n".to_owned();
    }
    let read = RESOLVERS.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    filter_resolvers(&read)
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
        let text = hosts("box", "tomcat5", Some([10, 0, 0, 2].into()));
        assert!(text.ends_with("10.0.0.2 box tomcat5\n"), "{text}");
        assert!(hosts("a", "a", None).ends_with("127.0.1.1 a\n"));
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
