//! Who asks, from the files that `docker login` and `podman login` write: docker's config.json, containers-auth.json(5).

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde_json::Value;

use crate::reference::Reference;

/// What a registry is told of who asks. It is never shown.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// A user's name, and password or access token.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that tokens are had for (`identitytoken` in the files).
    Identity(String),
    /// Kept by this helper, `docker-credential-NAME`. No helper is run.
    Helper(String),
}

impl Credentials {
    /// ```
    /// let credentials = isolate_images::Credentials::password("ci", std::env::var("TOKEN").unwrap_or_default());
    /// # let _ = credentials;
    /// ```
    pub fn password(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Password { user: user.into(), password: password.into() }
    }

    /// Those that the user has logged in with: of the most specific entry for the image in the first of these files that has one,
    /// `$REGISTRY_AUTH_FILE`, `$XDG_RUNTIME_DIR/containers/auth.json`, `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`,
    /// `~/.config/containers/auth.json`. Files that cannot be read have none.
    #[must_use]
    pub fn of_user(reference: &Reference) -> Option<Self> {
        files().into_iter().find_map(|file| {
            let text = std::fs::read(file).ok()?;
            find(&serde_json::from_slice(&text).ok()?, reference)
        })
    }

    /// For a header.
    pub(super) fn basic(&self) -> Option<String> {
        match self {
            Self::Password { user, password } => {
                Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
            }
            Self::Identity(_) | Self::Helper(_) => None,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password {{ user: {user:?}, .. }}"),
            Self::Identity(_) => f.write_str("Identity(..)"),
            Self::Helper(name) => write!(f, "Helper({name:?})"),
        }
    }
}

fn files() -> Vec<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = set("HOME");
    let docker = set("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
    [
        set("REGISTRY_AUTH_FILE"),
        set("XDG_RUNTIME_DIR").map(|run| run.join("containers/auth.json")),
        docker.map(|docker| docker.join("config.json")),
        home.map(|home| home.join(".config/containers/auth.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// In one file: helpers of this registry, then entries, then the helper of all others.
fn find(file: &Value, reference: &Reference) -> Option<Credentials> {
    let keys = keys(reference);
    let helper = |name: &Value| name.as_str().map(|name| Credentials::Helper(name.to_owned()));
    let own = keys.iter().find_map(|key| helper(file.get("credHelpers")?.get(key)?));
    let entry = || keys.iter().find_map(|key| entry(file.get("auths")?.get(key)?));
    // An entry without anything says that the helper has it.
    let general = || {
        keys.iter().find_map(|key| file.get("auths")?.get(key)).and_then(|_| helper(file.get("credsStore")?))
    };
    own.or_else(entry).or_else(general)
}

fn entry(entry: &Value) -> Option<Credentials> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Some(Credentials::Identity(token.to_owned()));
    }
    if let (Some(user), Some(password)) = (text("username"), text("password")) {
        return Some(Credentials::password(user, password));
    }
    let auth = text("auth")?;
    let decoded = STANDARD.decode(auth).or_else(|_| STANDARD_NO_PAD.decode(auth)).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(Credentials::password(user, password.trim_end_matches('\0')))
}

/// What an image may be entered under, the most specific first.
fn keys(reference: &Reference) -> Vec<String> {
    let (registry, repository) = (reference.registry(), reference.repository());
    let mut name = format!("{registry}/{repository}");
    let mut keys = Vec::new();
    while name.len() > registry.len() {
        keys.push(name.clone());
        name.truncate(name.rfind('/').unwrap_or(0));
    }
    keys.push(registry.to_owned());
    keys.extend([
        format!("https://{registry}"),
        format!("https://{registry}/v1/"),
        format!("https://{registry}/v2/"),
    ]);
    if registry == "docker.io" {
        keys.extend(["https://index.docker.io/v1/".to_owned(), "index.docker.io".to_owned()]);
    }
    keys
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_most_specific_entry_of_a_file_is_taken() {
        let basic = |text: &str| json!({ "auth": STANDARD.encode(text) });
        let file = json!({
            "auths": {
                "https://index.docker.io/v1/": basic("hub:a:b"),
                "r.example.org": basic("all:1"),
                "r.example.org/team": basic("team:2"),
                "t.example.org": { "identitytoken": "long" },
                "k.example.org": {},
                "broken.example.org": { "auth": "?" },
            },
            "credHelpers": { "h.example.org": "pass" },
            "credsStore": "secretservice",
        });
        let of = |name: &str| find(&file, &name.parse().unwrap());
        assert_eq!(of("tomcat"), Some(Credentials::password("hub", "a:b")));
        assert_eq!(of("r.example.org/other/app"), Some(Credentials::password("all", "1")));
        assert_eq!(of("r.example.org/team/app"), Some(Credentials::password("team", "2")));
        assert_eq!(of("t.example.org/app"), Some(Credentials::Identity("long".into())));
        assert_eq!(of("h.example.org/app"), Some(Credentials::Helper("pass".into())));
        assert_eq!(of("k.example.org/app"), Some(Credentials::Helper("secretservice".into())));
        assert_eq!(of("broken.example.org/app"), Some(Credentials::Helper("secretservice".into())));
        assert_eq!(of("unknown.example.org/app"), None);
    }

    #[test]
    fn a_password_is_never_shown() {
        let shown = format!(
            "{:?} {:?}",
            Credentials::password("a", "hunter2"),
            Credentials::Identity("hunter2".into())
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
