//! A registry of one layout, with moods.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

/// How it answers.
#[derive(Clone, Default)]
pub(crate) struct Moods {
    /// It wants a token, which it gives to this user with this password.
    pub login: Option<(String, String)>,
    /// A connection breaks after so many bytes of a blob, once for each blob and as many times.
    pub breaks: Option<(u64, usize)>,
    /// It knows no ranges.
    pub whole: bool,
    /// Each blob of a layer is another.
    pub lies: bool,
    /// This many answers are 503.
    pub busy: usize,
    /// Bytes a second of blobs.
    pub pace: Option<u64>,
}

pub(crate) struct Server {
    pub address: SocketAddr,
    state: Arc<State>,
    thread: Option<thread::JoinHandle<()>>,
}

struct State {
    layout: PathBuf,
    tags: HashMap<String, Value>,
    moods: Moods,
    busy: AtomicUsize,
    broken: Mutex<HashMap<String, usize>>,
    asked: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Server {
    /// Tags are the layout's names.
    pub(crate) fn of(layout: &Path, moods: Moods) -> Self {
        let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        let name = |one: &Value| {
            one["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap_or("only").to_owned()
        };
        let tags =
            index["manifests"].as_array().unwrap().iter().map(|one| (name(one), one.clone())).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            layout: layout.to_owned(),
            tags,
            busy: AtomicUsize::new(moods.busy),
            moods,
            broken: Mutex::default(),
            asked: Mutex::default(),
            over: AtomicBool::new(false),
        };
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.over.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&shared);
                thread::spawn(move || while state.answer(&stream, address).is_some() {});
            }
        });
        Self { address, state, thread: Some(thread) }
    }

    pub(crate) fn reference(&self, tag: &str) -> isolate_images::Reference {
        format!("{}/team/app:{tag}", self.address).parse().unwrap()
    }

    /// What it was asked for so far, as `GET /v2/…`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
        TcpStream::connect(self.address).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl State {
    /// One request of a connection; none at its end.
    fn answer(&self, stream: &TcpStream, own: SocketAddr) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let header = |name: &str| {
            lines.iter().skip(1).find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let mut words = lines.first()?.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        self.asked.lock().unwrap().push(format!("{method} {path}"));
        let mut stream = stream;
        let mut say = |status: &str, headers: &[String], body: &[u8]| -> Option<()> {
            let mut head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
            headers.iter().for_each(|header| head += &format!("{header}\r\n"));
            stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
            if method == "HEAD" { Some(()) } else { stream.write_all(body).ok() }
        };
        if let Some((user, password)) = &self.moods.login {
            if path.starts_with("/token") {
                use base64::Engine as _;
                let said = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
                return match header("authorization") {
                    Some(basic) if basic == format!("Basic {said}") && path.contains("pull") => {
                        say("200 OK", &[], br#"{"token":"good"}"#)
                    }
                    _ => say("401 Unauthorized", &[], b""),
                };
            }
            if header("authorization").as_deref() != Some("Bearer good") {
                let wants = format!(
                    r#"www-authenticate: Bearer realm="http://{own}/token",service="test",scope="repository:team/app:pull""#
                );
                return say("401 Unauthorized", &[wants], b"");
            }
        }
        if path == "/v2/" {
            return say("200 OK", &[], b"{}");
        }
        if self.busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return say("503 Service Unavailable", &["retry-after: 0".to_owned()], b"");
        }
        let rest = path.strip_prefix("/v2/team/app/")?;
        let missing = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such thing"}]}"#;
        if let Some(tag) = rest.strip_prefix("manifests/") {
            let descriptor = self.tags.get(tag);
            let digest = descriptor.map_or(tag, |one| one["digest"].as_str().unwrap());
            let Some(bytes) = self.blob(digest) else { return say("404 Not Found", &[], missing) };
            let document: Value = serde_json::from_slice(&bytes).ok()?;
            let media_type = format!("content-type: {}", document["mediaType"].as_str()?);
            return say("200 OK", &[media_type, format!("docker-content-digest: {digest}")], &bytes);
        }
        let digest = rest.strip_prefix("blobs/")?;
        let Some(mut bytes) = self.blob(digest) else { return say("404 Not Found", &[], missing) };
        if self.moods.lies && bytes.first() != Some(&b'{') {
            bytes[20] ^= 1;
        }
        let from = header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let (status, from) = match from {
            Some(from) if !self.moods.whole => ("206 Partial Content", from),
            _ => ("200 OK", 0),
        };
        let range = format!("content-range: bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
        let headers = if from > 0 { vec![range] } else { Vec::new() };
        let rest = &bytes[from..];
        if let Some((after, times)) = self.moods.breaks {
            let mut broken = self.broken.lock().unwrap();
            let count = broken.entry(digest.to_owned()).or_default();
            if *count < times && rest.len() as u64 > after {
                *count += 1;
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{}\r\n\r\n",
                    rest.len(),
                    headers.join("\r\n")
                );
                let head = head.replace("\r\n\r\n\r\n", "\r\n\r\n");
                stream.write_all(head.as_bytes()).ok()?;
                stream.write_all(&rest[..after as usize]).ok()?;
                stream.shutdown(std::net::Shutdown::Both).ok();
                return None;
            }
        }
        let Some(pace) = self.moods.pace else { return say(status, &headers, rest) };
        let mut head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", rest.len());
        headers.iter().for_each(|header| head += &format!("{header}\r\n"));
        stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
        for part in rest.chunks(16 << 10) {
            stream.write_all(part).ok()?;
            thread::sleep(std::time::Duration::from_secs_f64(part.len() as f64 / pace as f64));
        }
        Some(())
    }

    fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let path = self.layout.join("blobs").join(digest.replace(':', "/"));
        fs::File::open(path).ok()?.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}
