//! Keeps web pages away from a server on the user's own machine.
//!
//! A page in the user's browser can send requests to `localhost`. It cannot forge the headers `Host` and `Origin`, so
//! these two tell it from a program.

use std::net::{IpAddr, SocketAddr};

use http::uri::Authority;
use http::{HeaderMap, Method, Request, header};

use super::ServerOptions;
use crate::problem::{Kind, Problem};

pub(super) struct Guard {
    /// Whether requests are refused that name another host.
    by_name: bool,
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Guard {
    pub(super) fn new(options: &ServerOptions, address: SocketAddr) -> Self {
        Self {
            by_name: address.ip().is_loopback() || !options.allowed_hosts.is_empty(),
            hosts: options.allowed_hosts.clone(),
            origins: options.allowed_origins.clone(),
        }
    }

    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        let host = host(request)?;
        if self.by_name && !host.as_ref().is_some_and(|host| self.is_ours(host.host())) {
            return Err(Problem::new(Kind::MisdirectedRequest));
        }
        if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        let mut origins = request.headers().get_all(header::ORIGIN).iter();
        let foreign = origins.any(|origin| !origin.to_str().is_ok_and(|origin| self.may_change(origin, host.as_ref())));
        if foreign { Err(Problem::new(Kind::ForeignOrigin)) } else { Ok(()) }
    }

    fn is_ours(&self, host: &str) -> bool {
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        plain.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host))
    }

    fn may_change(&self, origin: &str, host: Option<&Authority>) -> bool {
        if self.origins.iter().any(|allowed| allowed == origin) {
            return true;
        }
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        matches!((authority, host), (Some(authority), Some(host)) if host.as_str().eq_ignore_ascii_case(authority))
    }
}

/// The host that the client meant. The request's target and its header must not contradict each other.
fn host<B>(request: &Request<B>) -> Result<Option<Authority>, Problem> {
    let header = header_host(request.headers())?;
    match (request.uri().authority(), header) {
        (Some(target), Some(header)) if *target != header => {
            Err(Problem::invalid("header.host", "names another host than the request's target"))
        }
        (Some(target), _) => Ok(Some(target.clone())),
        (None, header) => Ok(header),
    }
}

fn header_host(headers: &HeaderMap) -> Result<Option<Authority>, Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let Some(host) = hosts.next() else { return Ok(None) };
    if hosts.next().is_some() {
        return Err(Problem::invalid("header.host", "is repeated"));
    }
    Authority::try_from(host.as_bytes())
        .ok()
        .filter(|authority| !authority.as_str().contains('@'))
        .map(Some)
        .ok_or_else(|| Problem::invalid("header.host", "is not a host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(address: &str) -> Guard {
        let mut options = ServerOptions::new("test", address.parse().unwrap());
        options.allowed_hosts = vec!["agents.internal".to_owned()];
        options.allowed_origins = vec!["https://console.example".to_owned()];
        Guard::new(&options, options.address)
    }

    fn ask(method: &str, target: &str, headers: &[(&str, &str)]) -> Option<Kind> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard("127.0.0.1:8003").check(&request.body(()).unwrap()).err().map(|problem| problem.kind)
    }

    #[test]
    fn a_loopback_listener_answers_to_its_own_names_only() {
        for host in ["localhost:8003", "LOCALHOST", "127.0.0.1:1", "[::1]:8003", "192.168.0.7", "agents.internal"] {
            assert_eq!(ask("GET", "/", &[("host", host)]), None, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8003"] {
            assert_eq!(ask("GET", "/", &[("host", host)]), Some(Kind::MisdirectedRequest), "{host}");
        }
        assert_eq!(ask("GET", "/", &[]), Some(Kind::MisdirectedRequest));
        assert_eq!(ask("GET", "/", &[("host", "localhost"), ("host", "evil.example")]), Some(Kind::InvalidRequest));
        assert_eq!(ask("GET", "/", &[("host", "x@localhost")]), Some(Kind::InvalidRequest));
        assert_eq!(ask("GET", "http://evil.example/", &[("host", "localhost")]), Some(Kind::InvalidRequest));
        assert_eq!(ask("GET", "http://evil.example/", &[]), Some(Kind::MisdirectedRequest));
    }

    #[test]
    fn a_listener_for_others_answers_to_any_name_until_its_names_are_told() {
        let ask = |host: &str, options: &ServerOptions| {
            let request = Request::builder().uri("/").header("host", host).body(()).unwrap();
            Guard::new(options, options.address).check(&request).is_ok()
        };
        let mut options = ServerOptions::new("test", "0.0.0.0:8003".parse().unwrap());
        assert!(ask("agents.example", &options));
        // A port of a container that is published on a person's machine is as near to web pages as a loopback listener.
        options.allowed_hosts = vec!["agent-orchestrator".to_owned()];
        assert!(
            ask("agent-orchestrator:8003", &options) && ask("localhost:8003", &options) && ask("127.0.0.1", &options)
        );
        assert!(!ask("evil.example:8003", &options));
    }

    #[test]
    fn pages_of_other_origins_may_read_but_not_change() {
        let host = ("host", "localhost:8003");
        for origin in ["http://evil.example", "null", "http://localhost:9999", "http://localhost:8003.evil.example"] {
            assert_eq!(ask("POST", "/", &[host, ("origin", origin)]), Some(Kind::ForeignOrigin), "{origin}");
            assert_eq!(ask("DELETE", "/", &[host, ("origin", origin)]), Some(Kind::ForeignOrigin), "{origin}");
            assert_eq!(ask("GET", "/", &[host, ("origin", origin)]), None, "{origin}");
        }
        for origin in ["http://localhost:8003", "https://console.example"] {
            assert_eq!(ask("POST", "/", &[host, ("origin", origin)]), None, "{origin}");
        }
        assert_eq!(ask("POST", "/", &[host]), None, "a program sends no origin");
    }
}
