//! Doors for `cargo xtask fuzz`: there with `--cfg fuzzing` alone. What they promise is checked here, for any input.

use crate::ids::subids;
use crate::user::{User, passwd};

/// The files as an image has them, for users by number, by the name of each entry, and by what the file begins with. The first byte
/// says where `/etc/passwd` ends and `/etc/group` begins.
pub fn passwd(data: &[u8]) {
    let Some((&split, text)) = data.split_first() else { return };
    let (accounts, groups) = text.split_at(text.len() * usize::from(split) / 256);
    let names = passwd::accounts(accounts).filter_map(|account| std::str::from_utf8(account.name).ok());
    // A few: each costs a pass, and a thousand entries would be quadratic by the harness alone.
    let users = names.take(8).map(User::from).chain([User::id(0), User::id(1000).group("adm")]);
    for user in users {
        let Ok(resolved) = user.resolve(accounts, groups) else { continue };
        assert!(resolved.uid != u32::MAX && resolved.gid != u32::MAX && !resolved.groups.contains(&u32::MAX));
        assert!(resolved.home.is_absolute() && resolved.home.as_os_str().len() < 4096);
        assert!(!resolved.home.as_os_str().as_encoded_bytes().contains(&0));
        assert!(resolved.groups.len() <= 65_536);
    }
}

/// A user as a command line gives it: one that is understood is found where its names are listed.
pub fn user(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(user) = text.parse::<User>() else { return };
    let (name, group) = text.split_once(':').unwrap_or((text, "g"));
    let listed = |name: &str| name.parse::<u32>().unwrap_or(7);
    let passwd = format!("{name}:x:{0}:8::/home:\n", listed(name));
    let groups = format!("{group}:x:{}:\n", listed(group));
    let resolved = user.resolve(passwd.as_bytes(), groups.as_bytes());
    assert!(resolved.is_ok_and(|resolved| resolved.uid == listed(name)), "{text:?} is in the files");
}

/// Ranges of ids: none is empty, and none has the id -1 in it.
pub fn subids(data: &[u8]) {
    for (start, count) in subids::subids(data, "ann", 1000) {
        assert!(count > 0 && start.checked_add(count).is_some());
    }
}
