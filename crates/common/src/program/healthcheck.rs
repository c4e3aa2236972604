//! Asks the service itself whether it can work: an image without a shell has no other way.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// Longer than the service's own checks may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// An answer is never larger.
const LARGEST: u64 = 64 << 10;

/// Asks; 0 when the answer is 200, else 1 and the answer on standard output, where `docker inspect` shows it.
pub(super) fn ask(address: SocketAddr, path: &str) -> ExitCode {
    match get(reachable(address), path) {
        Ok((200, _)) => ExitCode::SUCCESS,
        Ok((status, body)) => {
            println!("{status} {body}");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("no answer at {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A service that listens everywhere is reached on this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(LARGEST).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other("the answer is not HTTP"))?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned()).unwrap_or_default();
    Ok((status, body))
}
