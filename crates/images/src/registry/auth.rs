//! What a registry wants to know of who asks: RFC 7235 and 6750, and the token server of distribution's specification.

use std::sync::Mutex;

use serde_json::Value;
use ureq::Agent;

use super::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};

/// A token is some kilobytes.
const MOST: u64 = 256 << 10;

/// Who asks, and what it was told.
pub(super) struct Login {
    credentials: Option<Credentials>,
    host: String,
    repository: String,
    header: Mutex<Option<String>>,
}

/// What stands in `WWW-Authenticate`.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Login {
    pub(super) fn new(credentials: Option<Credentials>, host: &str, repository: &str) -> Self {
        Self {
            credentials,
            host: host.to_owned(),
            repository: repository.to_owned(),
            header: Mutex::new(None),
        }
    }

    /// What to say without being asked, once it is known.
    pub(super) fn header(&self) -> Option<String> {
        self.header.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// What to say to one of these.
    pub(super) fn answer(&self, agent: &Agent, base: &str, challenges: &[String]) -> Result<String> {
        let challenges: Vec<Challenge> = challenges.iter().flat_map(|text| parse(text)).collect();
        let of = |scheme: &str| challenges.iter().find(|one| one.scheme.eq_ignore_ascii_case(scheme));
        let header = match (of("bearer"), of("basic"), &self.credentials) {
            (Some(bearer), _, _) => format!("Bearer {}", self.token(agent, base, bearer)?),
            (None, Some(_), Some(credentials)) => credentials.basic().ok_or_else(|| self.unauthorized())?,
            _ => return Err(self.unauthorized()),
        };
        *self.header.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(header.clone());
        Ok(header)
    }

    pub(super) fn hint(&self) -> String {
        match &self.credentials {
            None => format!(
                "there are no credentials for {}: say them, or log in with docker or podman",
                self.host
            ),
            Some(Credentials::Helper(name)) => format!(
                "the credentials for {} are in the keeping of docker-credential-{name}, which is not run: ask it, and say them",
                self.host
            ),
            Some(_) => "the credentials may be wrong, or the image another's or not there".to_owned(),
        }
    }

    fn unauthorized(&self) -> Error {
        Error::new(
            ErrorKind::Unauthorized,
            format!("{}/{}: credentials are wanted", self.host, self.repository),
        )
        .with_hint(self.hint())
    }

    fn token(&self, agent: &Agent, base: &str, challenge: &Challenge) -> Result<String> {
        let wrong =
            |why: &str| Error::new(ErrorKind::Registry, format!("{}: its token server: {why}", self.host));
        let parameter = |name: &str| {
            challenge.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
        };
        let realm = parameter("realm").ok_or_else(|| wrong("not told"))?;
        let open = realm.starts_with("http://") && base.starts_with("http://");
        if !realm.starts_with("https://") && !open {
            return Err(wrong(&format!("{realm:?} would be told the credentials in the open")));
        }
        let scope =
            parameter("scope").map_or_else(|| format!("repository:{}:pull", self.repository), str::to_owned);
        let service = parameter("service").unwrap_or_default().to_owned();
        let answer = match &self.credentials {
            Some(Credentials::Identity(token)) => agent.post(realm).send_form([
                ("grant_type", "refresh_token"),
                ("refresh_token", token.as_str()),
                ("service", service.as_str()),
                ("scope", scope.as_str()),
                ("client_id", "isolate"),
            ]),
            other => {
                let request = agent.get(realm).query("service", service).query("scope", scope);
                match other.as_ref().and_then(Credentials::basic) {
                    Some(basic) => request.header("authorization", basic).call(),
                    None => request.call(),
                }
            }
        };
        let mut answer = answer.map_err(|e| super::unreachable(realm, &e))?;
        if matches!(answer.status().as_u16(), 400 | 401 | 403) {
            return Err(self.unauthorized());
        }
        let answer_text = answer.body_mut().with_config().limit(MOST).read_to_string().unwrap_or_default();
        let said: Value = serde_json::from_str(&answer_text)
            .map_err(|_| wrong(&format!("{realm}: {}, and no token", answer.status())))?;
        let token = ["token", "access_token"].iter().find_map(|name| said.get(name)?.as_str());
        // Into a header goes nothing that could end it.
        match token.filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())) {
            Some(token) => Ok(token.to_owned()),
            None => Err(wrong("no token")),
        }
    }
}

/// All challenges of a header: schemes with parameters, any of which may be quoted.
fn parse(text: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        if word.is_empty() {
            return challenges;
        }
        match (behind.strip_prefix('='), challenges.last_mut()) {
            (Some(value), Some(challenge)) => {
                let (value, behind) = one_value(value);
                challenge.parameters.push((word.to_ascii_lowercase(), value));
                rest = behind;
            }
            (Some(_), None) => return challenges,
            (None, _) => {
                challenges.push(Challenge { scheme: word.to_owned(), parameters: Vec::new() });
                rest = behind;
            }
        }
    }
}

/// A word or a quoted string, and what is behind it.
fn one_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        let (value, behind) = text.split_at(end);
        return (value.to_owned(), behind);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<(String, Vec<(String, String)>)> {
        parse(text).into_iter().map(|one| (one.scheme, one.parameters)).collect()
    }

    fn own(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_challenge_is_read_quoted_or_not_and_beside_others() {
        let realm = ("realm", "https://auth.example.org/token?a=b,c");
        assert_eq!(
            all(
                r#"Bearer realm="https://auth.example.org/token?a=b,c",service="r \"x\"" , Scope=repository:a:pull"#
            ),
            [("Bearer".to_owned(), own(&[realm, ("service", "r \"x\""), ("scope", "repository:a:pull")]))]
        );
        assert_eq!(
            all(r#"Basic realm="x", Bearer realm="y""#),
            [("Basic".to_owned(), own(&[("realm", "x")])), ("Bearer".to_owned(), own(&[("realm", "y")]))]
        );
        assert_eq!(all("Basic"), [("Basic".to_owned(), Vec::new())]);
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_read_to_its_end(text in "\\PC{0,80}|[a-c =\",\\\\]{0,40}") {
            parse(&text);
        }
    }
}
