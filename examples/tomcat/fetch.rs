//! A page of the published port, as a client on the host sees it.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status line.
    pub status: String,
    /// What is between `<title>` and `</title>`.
    pub title: String,
}

/// Asks until there is an answer: a server takes a while to start.
pub(crate) fn retry(
    port: u16,
    patience: Duration,
    mut has_ended: impl FnMut() -> isolate::Result<bool>,
) -> Result<Answer, Box<dyn Error>> {
    let end = Instant::now() + patience;
    loop {
        match get(port) {
            Ok(answer) => return Ok(answer),
            Err(_) if has_ended()? => return Err("the web server ended before it answered".into()),
            Err(e) if Instant::now() > end => {
                return Err(format!("no answer within {patience:?}: {e}").into());
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn get(port: u16) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let status =
        text.lines().next().filter(|line| line.starts_with("HTTP/")).ok_or(io::ErrorKind::UnexpectedEof)?;
    let title = text
        .split_once("<title>")
        .and_then(|(_, rest)| rest.split_once("</title>"))
        .map_or("", |(title, _)| title);
    Ok(Answer { status: status.to_owned(), title: title.trim().to_owned() })
}
