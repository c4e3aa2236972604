//! How operators write which hosts they mean.

use std::fmt;
use std::str::FromStr;

use url::Host;

use super::destination::Destination;

/// One host at one port, such as `127.0.0.1:9999`, `[::1]:9999` or `tools.internal:8080`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    host: Host<String>,
    port: u16,
}

/// Why a text is not a host and a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a host and a port, such as 127.0.0.1:9999 or tools.internal:8080")]
pub struct HostPortError;

impl HostPort {
    /// Reads a list whose items are separated by commas, as an environment variable holds it.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, HostPortError> {
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::parse).collect()
    }

    pub(super) fn matches(&self, destination: &Destination) -> bool {
        self.host == destination.host && self.port == destination.port
    }
}

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, HostPortError> {
        let (host, port) = text.rsplit_once(':').ok_or(HostPortError)?;
        let host = Host::parse(host).map_err(|_| HostPortError)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(HostPortError)?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What an agent's `allow` says of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// The host is not among those that the agent may call.
    No,
    /// The host is, at the usual ports.
    Host,
    /// The host is, at exactly this port.
    HostAndPort,
}

/// Looks a destination up in an agent's list; an empty list allows every host. An entry that cannot be read allows none.
pub(super) fn allowed(entries: &[String], destination: &Destination) -> Allowed {
    if entries.is_empty() {
        return Allowed::Host;
    }
    let mut found = Allowed::No;
    for entry in entries {
        match entry_allows(&entry.trim().to_ascii_lowercase(), destination) {
            Allowed::HostAndPort => return Allowed::HostAndPort,
            Allowed::Host => found = Allowed::Host,
            Allowed::No => {}
        }
    }
    found
}

fn entry_allows(entry: &str, destination: &Destination) -> Allowed {
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (entry, None),
    };
    if !host_matches(host, destination) {
        return Allowed::No;
    }
    match port {
        None => Allowed::Host,
        Some(port) if port.parse() == Ok(destination.port) => Allowed::HostAndPort,
        Some(_) => Allowed::No,
    }
}

fn host_matches(pattern: &str, destination: &Destination) -> bool {
    if let Some(domain) = pattern.strip_prefix("*.") {
        let Host::Domain(name) = &destination.host else { return false };
        let Ok(Host::Domain(domain)) = Host::parse(domain) else { return false };
        return name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'));
    }
    Host::parse(pattern).is_ok_and(|host| host == destination.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(entry: &str, url: &str) -> Allowed {
        allowed(&[entry.to_owned()], &Destination::parse(url).expect(url))
    }

    #[test]
    fn an_entry_means_the_host_that_it_names() {
        for (entry, url, expected) in [
            ("example.com", "https://example.com/x", Allowed::Host),
            (" Example.COM ", "https://example.com/x", Allowed::Host),
            ("example.com", "https://www.example.com", Allowed::No),
            ("example.com", "https://example.com.evil.test", Allowed::No),
            ("example.com", "https://notexample.com", Allowed::No),
            ("example.com:9000", "https://example.com:9000", Allowed::HostAndPort),
            ("example.com:9000", "https://example.com", Allowed::No),
            ("*.example.com", "https://a.b.example.com", Allowed::Host),
            ("*.example.com", "https://example.com", Allowed::No),
            ("*.example.com", "https://notexample.com", Allowed::No),
            ("*.example.com:9000", "http://a.example.com:9000", Allowed::HostAndPort),
            ("bücher.example", "https://xn--bcher-kva.example", Allowed::Host),
            ("[::1]:80", "http://[::1]", Allowed::HostAndPort),
            ("[::1]", "http://[::1]", Allowed::Host),
            ("1.2.3.4", "http://1.2.3.4", Allowed::Host),
            ("*", "https://example.com", Allowed::No),
            ("", "https://example.com", Allowed::No),
            ("https://example.com", "https://example.com", Allowed::No),
        ] {
            assert_eq!(look(entry, url), expected, "{entry} {url}");
        }
    }

    #[test]
    fn an_empty_list_allows_every_host() {
        assert_eq!(allowed(&[], &Destination::parse("http://example.com").expect("plain")), Allowed::Host);
    }

    #[test]
    fn a_list_of_hosts_and_ports_is_read_whole_or_not_at_all() {
        let list = HostPort::parse_list("127.0.0.1:9999, [::1]:80,Tools.internal:8080,").expect("valid");
        let texts: Vec<String> = list.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["127.0.0.1:9999", "[::1]:80", "tools.internal:8080"]);
        for text in ["127.0.0.1", "127.0.0.1:0", "127.0.0.1:x", "127.0.0.1:9999,nonsense", "10.0.0.0/8:80", "a b:80"] {
            assert_eq!(HostPort::parse_list(text), Err(HostPortError), "{text}");
        }
    }
}
