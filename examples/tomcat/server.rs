//! The small HTTP server that runs in the container where there is no Tomcat.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::signals::Signals;

/// Answers every request on port 8080 until SIGTERM.
pub(crate) fn serve() -> Result<(), Box<dyn Error>> {
    // A container's first process gets a signal only if it asks for it.
    let signals = Signals::block()?;
    let listener = TcpListener::bind("0.0.0.0:8080")?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream).ok());
        }
    });
    signals.wait()
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while request.read_line(&mut line)? > 2 {
        line.clear();
    }
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    let (hostname, pid, from) = (hostname.trim(), std::process::id(), stream.peer_addr()?);
    let page = format!(
        "<!DOCTYPE html><html><head><title>Hello from {hostname}</title></head>\
         <body><h1>It works!</h1><p>Process {pid} of {hostname} answers {from}.</p></body></html>\n"
    );
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
        page.len()
    )
}
