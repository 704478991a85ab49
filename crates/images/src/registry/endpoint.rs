//! Where a registry is.

use std::net::IpAddr;

use crate::error::{Error, ErrorKind, Result};
use crate::reference::Reference;

/// Docker's own registry has another name than its images.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// A registry, or a mirror of one, below a path or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    host: String,
    /// What stands before the names of repositories, with a slash behind it, or nothing.
    prefix: String,
    plain: Option<bool>,
}

impl Endpoint {
    /// Of the images of this registry. Over HTTP only if that is said, or where nobody is between: on this machine.
    pub(crate) fn of(registry: &str, plain: bool) -> Self {
        let host = if registry == HUB.0 { HUB.1 } else { registry };
        Self { host: host.to_owned(), prefix: String::new(), plain: plain.then_some(true) }
    }

    /// `https://mirror.example.org/hub`, or without the scheme.
    pub(crate) fn mirror(url: &str) -> Result<Self> {
        let (plain, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (Some(false), rest),
            (_, Some(rest)) => (Some(true), rest),
            _ => (None, url),
        };
        let rest = rest.trim_end_matches('/');
        let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        // As in an image's name, so that it is checked as one.
        let name = if prefix.is_empty() { format!("{host}/a") } else { format!("{host}/{prefix}/a") };
        match name.parse::<Reference>() {
            Ok(reference) if reference.registry() == host => {}
            _ => {
                let what = format!("mirror {url:?}: not as in https://mirror.example.org:5000/path");
                return Err(Error::new(ErrorKind::InvalidInput, what));
            }
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { host: host.to_owned(), prefix, plain })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn repository(&self, reference: &Reference) -> String {
        format!("{}{}", self.prefix, reference.repository())
    }

    /// What to try, in this order. On this machine HTTP comes first: what answers there is not to be taken for HTTPS that has failed.
    pub(crate) fn schemes(&self) -> impl Iterator<Item = &'static str> {
        let plain = self.plain.unwrap_or(false);
        let either = self.plain.is_none() && self.is_loopback();
        [(plain || either, "http"), (!plain, "https")]
            .into_iter()
            .filter_map(|(on, scheme)| on.then_some(scheme))
    }

    /// Whether it is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = match self.host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => self.host.split(':').next().unwrap_or_default(),
        };
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemes(endpoint: &Endpoint) -> Vec<&str> {
        endpoint.schemes().collect()
    }

    #[test]
    fn plain_http_is_for_this_machine_and_for_who_asks_for_it() {
        for local in ["localhost:5000", "127.0.0.1", "127.9.9.9:80", "[::1]:5000"] {
            assert_eq!(schemes(&Endpoint::of(local, false)), ["http", "https"], "{local}");
        }
        for other in ["docker.io", "r.example.org:5000", "localhost.example.org", "128.0.0.1", "[fe80::1]:1"]
        {
            assert_eq!(schemes(&Endpoint::of(other, false)), ["https"], "{other}");
            assert_eq!(schemes(&Endpoint::of(other, true)), ["http"], "{other}");
        }
        assert_eq!(schemes(&Endpoint::mirror("https://localhost:1").unwrap()), ["https"]);
        assert_eq!(schemes(&Endpoint::mirror("http://m.example.org").unwrap()), ["http"]);
    }

    #[test]
    fn a_mirror_has_a_host_and_may_have_a_path() {
        let tomcat: Reference = "tomcat".parse().unwrap();
        let of = |url: &str| {
            let mirror = Endpoint::mirror(url).unwrap();
            (mirror.host().to_owned(), mirror.repository(&tomcat))
        };
        assert_eq!(of("https://m.example.org/"), ("m.example.org".into(), "library/tomcat".into()));
        assert_eq!(of("m.example.org:1/a/hub"), ("m.example.org:1".into(), "a/hub/library/tomcat".into()));
        for bad in [
            "",
            "https://",
            "mirror",
            "https://m.example.org/../x",
            "https://u:p@m.example.org",
            "ftp://m.example.org",
        ] {
            assert_eq!(Endpoint::mirror(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
        assert_eq!(Endpoint::of("docker.io", false).host(), "registry-1.docker.io");
    }
}
