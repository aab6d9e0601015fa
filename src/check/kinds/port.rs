//! `port`: whether somebody answers.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::super::config::{Port, PortName};
use super::super::run::Context;
use super::super::verdict::{Found, evidence};

pub fn look(check: &Port, limit: Duration, context: &Context) -> Found {
    let place = match &check.port {
        PortName::Number(port) if check.host.contains(':') => format!("[{}]:{port}", check.host),
        PortName::Number(port) => format!("{}:{port}", check.host),
        PortName::Text(text) => text.clone(),
    };
    let name = evidence(place.as_bytes());
    let result = match &check.port {
        PortName::Text(path) if path.contains('/') => {
            UnixStream::connect(context.path(path)).map(drop).map_err(|error| error.to_string())
        }
        _ => match connect(&place, limit) {
            Ok(result) => result,
            Err(why) => return Found::error(format!("{name} is not a port to connect to: {why}")),
        },
    };
    let expected = if check.closed { "nobody answers" } else { "somebody answers" };
    match (&result, check.closed) {
        (Ok(()), false) => Found::pass(format!("{name} answers")),
        (Ok(()), true) => Found::fail(format!("{name} answers, and nobody should")),
        (Err(why), true) => Found::pass(format!("nobody answers at {name}: {why}")),
        (Err(why), false) => Found::fail(format!("nobody answers at {name}: {why}")),
    }
    .saw(result.err().unwrap_or_else(|| "open".to_owned()))
    .expected(expected)
}

fn connect(place: &str, limit: Duration) -> Result<Result<(), String>, String> {
    let addresses: Vec<_> = place.to_socket_addrs().map_err(|error| error.to_string())?.collect();
    let mut last = "the name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(_) => return Ok(Ok(())),
            Err(error) => last = error.to_string(),
        }
    }
    Ok(Err(last))
}
