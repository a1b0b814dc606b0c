//! Bots as small as they come: one thread a connection, HTTP/1.1 as far as Caddy speaks it to them.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// A bot on that address, for as long as the test lives. It tells its name and the request's head; on
/// `Upgrade: websocket` it sends back whatever comes.
pub(crate) fn start(name: &'static str, address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(name, stream));
        }
    });
}

/// Whoever goes away in the middle is no bot's trouble.
fn serve(name: &str, stream: TcpStream) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let head = head(&mut reader)?;
        if head.is_empty() {
            return Ok(());
        }
        if value(&head, "upgrade").is_some() {
            writer.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            )?;
            return echo(&mut reader, &mut writer);
        }
        read_body(&mut reader, &head)?;
        let body = format!("{name}\n{head}");
        // In one piece: the kernel would hold a second one back until the first is acknowledged.
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        writer.write_all(answer.as_bytes())?;
    }
}

fn head(reader: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut head = String::new();
    while reader.read_line(&mut head)? > 2 {}
    Ok(head)
}

/// A header's value; names in any case.
fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn read_body(reader: &mut BufReader<TcpStream>, head: &str) -> io::Result<()> {
    if let Some(length) = value(head, "content-length") {
        io::copy(&mut reader.take(length.parse().unwrap()), &mut io::sink())?;
    }
    while value(head, "transfer-encoding").is_some() {
        let mut size = String::new();
        reader.read_line(&mut size)?;
        let bytes = u64::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
        io::copy(&mut reader.take(bytes + 2), &mut io::sink())?;
        if bytes == 0 {
            break;
        }
    }
    Ok(())
}

fn echo(reader: &mut BufReader<TcpStream>, writer: &mut TcpStream) -> io::Result<()> {
    let mut bytes = [0; 1024];
    loop {
        let count = reader.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        writer.write_all(&bytes[..count])?;
    }
}
