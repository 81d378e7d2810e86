//! Answers requests with one line.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> std::io::Result<()> {
    for client in TcpListener::bind("0.0.0.0:8080")?.incoming() {
        if let Err(error) = client.and_then(answer) {
            eprintln!("{error}");
        }
    }
    Ok(())
}

fn answer(mut client: TcpStream) -> std::io::Result<()> {
    let mut bytes = [0; 4096];
    let count = client.read(&mut bytes)?;
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let status = match request.parse(&bytes[..count]) {
        Ok(_) if request.method == Some("GET") => "200 OK",
        _ => "400 Bad Request",
    };
    write!(client, "HTTP/1.0 {status}\r\nConnection: close\r\n\r\nRust says hello\n")
}
