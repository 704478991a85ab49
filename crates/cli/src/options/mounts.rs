//! `--volume`, `--mount`, `--tmpfs` and their own little languages.

use std::path::Path;

use clap::Args;
use isolate::{Bytes, ContainerBuilder, Mount, Propagation};

use crate::options::pairs::{list, read, switch, wanted};

/// Flags of mounts.
#[derive(Args, Debug)]
pub(crate) struct MountOptions {
    /// A host's path (begins with `/` or `.`), a volume by name, or a volume of its own
    #[arg(short, long = "volume", value_name = "[SOURCE:]TARGET[:OPTIONS]", value_parser = volume, help_heading = "Mounts")]
    volumes: Vec<Mount>,
    /// The same in words: type=bind|volume|tmpfs,src=…,dst=…,readonly,…
    #[arg(long = "mount", value_name = "KEY=VALUE,…", value_parser = mount, help_heading = "Mounts")]
    mounts: Vec<Mount>,
    /// A file system in memory: size=64m,mode=1777,nr_inodes=1000,ro,noexec
    #[arg(long = "tmpfs", value_name = "TARGET[:OPTIONS]", value_parser = tmpfs, help_heading = "Mounts")]
    tmpfs: Vec<Mount>,
    /// The size of /dev/shm
    #[arg(long, value_name = "BYTES", help_heading = "Mounts")]
    shm_size: Option<Bytes>,
}

impl MountOptions {
    pub(super) fn apply(&self, builder: ContainerBuilder) -> ContainerBuilder {
        let shm = self.shm_size.map(|size| Mount::tmpfs("/dev/shm").size(size).noexec());
        let all =
            shm.into_iter().chain([&self.tmpfs, &self.volumes, &self.mounts].into_iter().flatten().cloned());
        all.fold(builder, ContainerBuilder::mount)
    }
}

/// `[SOURCE:]TARGET[:OPTIONS]`.
fn volume(text: &str) -> Result<Mount, String> {
    let (source, target, options) = match text.split(':').collect::<Vec<_>>()[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(format!("`{text}` has more than three parts")),
    };
    let target = absolute(target)?;
    let named = match source {
        None => Mount::anonymous_volume(target),
        Some("") => return Err(format!("`{text}` has no source")),
        Some(path) if path.starts_with(['/', '.']) => bind(path, target)?,
        Some(name) => Mount::volume(name, target),
    };
    options.split(',').filter(|option| !option.is_empty()).try_fold(named, |mount, option| match option {
        "rw" => Ok(mount),
        "ro" => Ok(mount.read_only()),
        "nocopy" => Ok(mount.no_copy()),
        "noexec" => Ok(mount.noexec()),
        other => propagated(mount, other),
    })
}

/// `type=bind,src=/a,dst=/b,readonly`.
fn mount(text: &str) -> Result<Mount, String> {
    let value =
        |keys: &[&str]| list(text).filter(|(key, _)| keys.contains(key)).last().and_then(|(_, value)| value);
    let target = absolute(wanted("target", value(&["target", "dst", "destination"]))?)?;
    let source = value(&["source", "src"]);
    let kind = value(&["type"]).unwrap_or("volume");
    let base = match (kind, source) {
        ("bind", source) => bind(wanted("source", source)?, target)?,
        ("volume", Some(name)) => Mount::volume(name, target),
        ("volume", None) => Mount::anonymous_volume(target),
        ("tmpfs", None) => Mount::tmpfs(target),
        ("tmpfs", Some(_)) => return Err("a tmpfs has no source".into()),
        (other, _) => return Err(format!("type={other}: there are bind, volume and tmpfs")),
    };
    list(text).try_fold(base, |mount, (key, value)| match (kind, key) {
        (_, "type" | "target" | "dst" | "destination" | "source" | "src") => Ok(mount),
        (_, "readonly" | "ro") => switch(key, value).map(|on| if on { mount.read_only() } else { mount }),
        (_, "noexec") => switch(key, value).map(|on| if on { mount.noexec() } else { mount }),
        ("volume", "volume-nocopy") => switch(key, value).map(|on| if on { mount.no_copy() } else { mount }),
        ("bind", "bind-propagation") => propagated(mount, wanted(key, value)?),
        ("bind", "bind-nonrecursive") => {
            switch(key, value).map(|on| if on { mount.non_recursive() } else { mount })
        }
        ("tmpfs", "tmpfs-size") => read::<Bytes>(key, value).map(|size| mount.size(size)),
        ("tmpfs", "tmpfs-mode") => octal(wanted(key, value)?).map(|mode| mount.mode(mode)),
        (kind, other) => Err(format!("`{other}` is no key of a {kind}")),
    })
}

/// `/run:size=64m,mode=1777`.
fn tmpfs(text: &str) -> Result<Mount, String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let base = Mount::tmpfs(absolute(target)?);
    list(options).filter(|(key, _)| !key.is_empty()).try_fold(base, |mount, (key, value)| match key {
        "size" => read::<Bytes>(key, value).map(|size| mount.size(size)),
        "mode" => octal(wanted(key, value)?).map(|mode| mount.mode(mode)),
        "nr_inodes" => read(key, value).map(|most| mount.inodes(most)),
        "ro" => Ok(mount.read_only()),
        "noexec" => Ok(mount.noexec()),
        // What every tmpfs here is.
        "rw" | "nosuid" | "nodev" => Ok(mount),
        other => {
            Err(format!("`{other}` is no option of a tmpfs: there are size, mode, nr_inodes, ro, noexec"))
        }
    })
}

fn bind(source: &str, target: &Path) -> Result<Mount, String> {
    let source = std::path::absolute(source).map_err(|e| format!("{source}: {e}"))?;
    Ok(Mount::bind(source, target))
}

fn absolute(target: &str) -> Result<&Path, String> {
    let path = Path::new(target);
    path.is_absolute().then_some(path).ok_or_else(|| format!("`{target}` is no absolute path inside"))
}

fn propagated(mount: Mount, word: &str) -> Result<Mount, String> {
    match word {
        "rprivate" | "private" => Ok(mount.propagation(Propagation::Private)),
        "rslave" | "slave" => Ok(mount.propagation(Propagation::Slave)),
        "rshared" | "shared" => Ok(mount.propagation(Propagation::Shared)),
        other => Err(format!(
            "`{other}` is no option of a mount: there are ro, rw, nocopy, noexec, rslave, rshared, rprivate"
        )),
    }
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8).map_err(|_| format!("`{text}` is no mode: write it like 1777"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::options::tests::{refused, with};

    fn written(mount: &Mount) -> Value {
        serde_json::to_value(mount).unwrap()
    }

    /// What the command makes of it, and the library of the same.
    fn same(text: &str, parsed: Result<Mount, String>, wanted: &Mount) {
        assert_eq!(written(&parsed.unwrap_or_else(|e| panic!("{text}: {e}"))), written(wanted), "{text}");
    }

    #[test]
    fn a_volume_flag_is_a_path_a_name_or_neither() {
        let here = std::env::current_dir().unwrap();
        for (text, wanted) in [
            ("/srv/site:/www", Mount::bind("/srv/site", "/www")),
            ("/srv/site:/www:ro", Mount::bind("/srv/site", "/www").read_only()),
            ("./site:/www", Mount::bind(here.join("site"), "/www")),
            ("name:/path:ro", Mount::volume("name", "/path").read_only()),
            ("name:/path:nocopy,noexec", Mount::volume("name", "/path").no_copy().noexec()),
            ("/path", Mount::anonymous_volume("/path")),
            ("/m:/m:rw,rslave", Mount::bind("/m", "/m").propagation(Propagation::Slave)),
        ] {
            same(text, volume(text), &wanted);
        }
        for text in ["", "a:b", "a:/b:c", "a:/b:ro:c", ":/b", "name:", "a:/b:z"] {
            assert!(volume(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mount_flag_says_the_same_in_words() {
        for (text, wanted) in [
            ("type=bind,src=/a,dst=/b", Mount::bind("/a", "/b")),
            ("type=bind,source=/a,target=/b,readonly", Mount::bind("/a", "/b").read_only()),
            (
                "type=bind,src=/a,dst=/b,readonly=false,bind-nonrecursive",
                Mount::bind("/a", "/b").non_recursive(),
            ),
            ("source=v,destination=/b,volume-nocopy=true", Mount::volume("v", "/b").no_copy()),
            ("dst=/b", Mount::anonymous_volume("/b")),
            (
                "type=bind,src=/a,dst=/b,bind-propagation=rshared",
                Mount::bind("/a", "/b").propagation(Propagation::Shared),
            ),
            (
                "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700",
                Mount::tmpfs("/t").size(Bytes::mib(1)).mode(0o700),
            ),
        ] {
            same(text, mount(text), &wanted);
        }
        for (text, why) in [
            ("type=bind,dst=/b", "source"),
            ("type=bind,src=/a", "target"),
            ("type=npipe,src=/a,dst=/b", "npipe"),
            ("type=tmpfs,src=/a,dst=/b", "no source"),
            ("type=tmpfs,dst=/b,volume-nocopy", "volume-nocopy"),
            ("type=bind,src=/a,dst=b", "absolute"),
            ("type=bind,src=/a,dst=/b,readonly=perhaps", "perhaps"),
            ("type=tmpfs,dst=/b,tmpfs-size=big", "big"),
        ] {
            assert!(mount(text).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn a_tmpfs_has_options_of_its_own() {
        same("/t", tmpfs("/t"), &Mount::tmpfs("/t"));
        let text = "/t:size=64m,mode=1777,nr_inodes=10,noexec,ro,nosuid";
        let wanted = Mount::tmpfs("/t").size(Bytes::mib(64)).mode(0o1777).inodes(10).noexec().read_only();
        same(text, tmpfs(text), &wanted);
        for text in ["t", "/t:uid=0", "/t:size", "/t:mode=9"] {
            assert!(tmpfs(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mounts_of_all_flags_come_together() {
        let said = with(&["-v", "a:/a", "--tmpfs", "/t", "--mount", "dst=/b", "--shm-size", "1m"]);
        let targets: Vec<_> =
            said["mounts"].as_array().unwrap().iter().map(|mount| mount["target"].clone()).collect();
        assert_eq!(targets, [json!("/dev/shm"), json!("/t"), json!("/a"), json!("/b")]);
        assert!(refused(&["-v", "a:b"]).contains("`b` is no absolute path"));
    }
}
