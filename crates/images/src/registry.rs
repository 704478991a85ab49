//! One registry, over HTTP: OCI distribution-spec, "pull".

mod auth;
mod credentials;
mod endpoint;

pub use credentials::Credentials;
pub(crate) use endpoint::Endpoint;

use std::time::Duration;

use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, http};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::MOST;
use crate::reference::Reference;

/// What a manifest or an index may be.
const DOCUMENTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";
const CONNECT: Duration = Duration::from_secs(10);
/// For an answer to begin, and between two reads of it.
const SILENCE: Duration = Duration::from_secs(30);

/// A repository in a registry.
pub(crate) struct Registry {
    agent: Agent,
    base: String,
    repository: String,
    login: auth::Login,
}

/// A manifest or an index.
pub(crate) struct Document {
    pub bytes: Vec<u8>,
    pub media_type: String,
    pub digest: Digest,
}

/// What a blob is read from, and from where on.
pub(crate) struct Download {
    pub body: Body,
    pub from: u64,
}

impl Registry {
    /// Looks whether somebody answers there.
    pub(crate) fn connect(
        endpoint: &Endpoint,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Result<Self> {
        let mut failure = None;
        for scheme in endpoint.schemes() {
            let agent = agent(scheme == "https", endpoint.is_loopback());
            let base = format!("{scheme}://{}", endpoint.host());
            match agent.get(format!("{base}/v2/")).call() {
                // So a server of HTTPS says that it is one.
                Ok(answer) if scheme == "http" && answer.status() == 400 => {
                    failure = Some(Error::new(ErrorKind::Registry, format!("{base}: {}", answer.status())));
                }
                Ok(_) => {
                    let repository = endpoint.repository(reference);
                    let login = auth::Login::new(credentials.clone(), endpoint.host(), &repository);
                    return Ok(Self { agent, base, repository, login });
                }
                Err(error) => failure = Some(unreachable(&base, &error)),
            }
        }
        Err(failure.unwrap_or_else(|| Error::new(ErrorKind::Registry, endpoint.host())))
    }

    /// The manifest or index of a tag, or of a digest, which it is then. None if it is the one that is known.
    pub(crate) fn document(&self, tag_or_digest: &str, known: Option<&Digest>) -> Result<Option<Document>> {
        let wanted = tag_or_digest.parse::<Digest>().ok();
        let url = format!("{}/v2/{}/manifests/{tag_or_digest}", self.base, self.repository);
        // Some registries count what is fetched against a limit, and a question not. Others know no such question.
        let there = match (&wanted, known) {
            (Some(wanted), _) => Some(wanted.to_string()),
            (None, Some(_)) => self
                .send(&url, true, None)
                .ok()
                .and_then(|head| header(&head, "docker-content-digest").map(str::to_owned)),
            (None, None) => None,
        };
        if let (Some(there), Some(known)) = (there, known)
            && there == known.to_string()
        {
            return Ok(None);
        }
        let mut answer = self.send(&url, false, None)?;
        let media_type = header(&answer, "content-type").unwrap_or_default().to_owned();
        let bytes = answer.body_mut().with_config().limit(MOST).read_to_vec();
        let bytes = bytes.map_err(|e| Error::new(ErrorKind::Registry, format!("{url}: {e}")))?;
        let digest = match wanted {
            Some(wanted) if !wanted.is_of(&bytes) => {
                return Err(Error::new(ErrorKind::Corrupt, format!("{url}: not what its digest says")));
            }
            Some(wanted) => wanted,
            None => Digest::of(&bytes),
        };
        Ok(Some(Document { bytes, media_type, digest }))
    }

    /// A blob, from this byte on if the registry can, else from the first.
    pub(crate) fn blob(&self, digest: &Digest, from: u64) -> Result<Download> {
        let url = format!("{}/v2/{}/blobs/{digest}", self.base, self.repository);
        let answer = self.send(&url, false, (from > 0).then_some(from))?;
        let partial = answer.status().as_u16() == 206;
        // `bytes 100-999/1000`
        let begins = header(&answer, "content-range")
            .and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse::<u64>().ok());
        let from = match (partial, begins) {
            (true, Some(begins)) if begins == from => from,
            (true, _) => {
                return Err(Error::new(
                    ErrorKind::Registry,
                    format!("{url}: another part than the one asked for"),
                ));
            }
            (false, _) => 0,
        };
        Ok(Download { body: answer.into_body(), from })
    }

    /// Asks, with what the registry wants to know of who asks.
    fn send(&self, url: &str, head: bool, from: Option<u64>) -> Result<http::Response<Body>> {
        let ask = |authorization: Option<String>| {
            let mut request = if head { self.agent.head(url) } else { self.agent.get(url) };
            request = request.header("accept", if url.contains("/manifests/") { DOCUMENTS } else { "*/*" });
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            if let Some(from) = from {
                request = request.header("range", format!("bytes={from}-"));
            }
            request.call().map_err(|e| unreachable(url, &e))
        };
        let answer = ask(self.login.header())?;
        let answer = match answer.status().as_u16() {
            401 => {
                let challenges: Vec<String> = answer
                    .headers()
                    .get_all("www-authenticate")
                    .iter()
                    .filter_map(|value| value.to_str().ok().map(str::to_owned))
                    .collect();
                ask(Some(self.login.answer(&self.agent, &self.base, &challenges)?))?
            }
            _ => answer,
        };
        refused(url, answer, &self.login)
    }
}

/// What to do about a status that is none of success.
fn refused(url: &str, mut answer: http::Response<Body>, login: &auth::Login) -> Result<http::Response<Body>> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let retry = header(&answer, "retry-after").and_then(|text| text.parse::<u64>().ok());
    // OCI distribution-spec, "error codes".
    let text = answer.body_mut().with_config().limit(64 << 10).read_to_string().unwrap_or_default();
    let said = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|said| {
        let error = said.get("errors")?.get(0)?;
        let code = error.get("code")?.as_str()?.to_owned();
        Some(error.get("message").and_then(serde_json::Value::as_str).map(str::to_owned).unwrap_or(code))
    });
    let what = match said {
        Some(said) => format!("{url}: {status}: {}", said.escape_debug()),
        None => format!("{url}: {status}"),
    };
    Err(match status.as_u16() {
        401 | 403 => Error::new(ErrorKind::Unauthorized, what).with_hint(login.hint()),
        404 => Error::new(ErrorKind::NotFound, what),
        429 | 500..=599 => {
            Error::new(ErrorKind::Registry, what).worth_another_try(retry.map(Duration::from_secs))
        }
        _ => Error::new(ErrorKind::Registry, what),
    })
}

fn header<'a>(answer: &'a http::Response<Body>, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

fn unreachable(url: &str, error: &ureq::Error) -> Error {
    Error::new(ErrorKind::Registry, format!("{url}: {error}")).worth_another_try(None)
}

fn agent(secure: bool, loopback: bool) -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        // Nothing that was asked for in secret is answered in the open.
        .https_only(secure)
        .user_agent(concat!("isolate/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE));
    let config = if loopback { config.proxy(None) } else { config };
    config.build().into()
}
