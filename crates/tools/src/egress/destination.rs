//! Where a request goes, read so strictly that no two readers of the URL can disagree.
//!
//! The standard for URLs lets `http://127.1`, `http://0x7f.1`, `http:\\127.0.0.1` and `http://①②⑦.⓪.⓪.①` all mean the
//! same host. Nobody who means well writes these, so they are refused by form, before any address is looked at.

use std::net::IpAddr;

use url::{Host, Url};

use super::Blocked;

/// The longest URL.
pub const MAX_URL: usize = 8_192;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    pub(super) url: Url,
    pub(super) host: Host<String>,
    pub(super) port: u16,
}

impl Destination {
    /// Reads a URL that a model wrote.
    pub fn parse(text: &str) -> Result<Self, Blocked> {
        if text.len() > MAX_URL {
            return Err(Blocked::Form);
        }
        let location = text.split(['?', '#']).next().unwrap_or_default();
        if text.chars().any(char::is_control) || location.contains('\\') {
            return Err(Blocked::Form);
        }
        let (scheme, rest) = text.split_once(':').ok_or(Blocked::Form)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(Blocked::Scheme);
        }
        let authority = rest.strip_prefix("//").ok_or(Blocked::Form)?.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() || authority.contains(['@', '%']) {
            return Err(Blocked::Form);
        }
        let mut url = Url::parse(text).map_err(|_| Blocked::Form)?;
        url.set_fragment(None);
        let host = url.host().ok_or(Blocked::Form)?.to_owned();
        let port = url.port_or_known_default().ok_or(Blocked::Form)?;
        let plain = match &host {
            Host::Ipv4(address) => host_of(authority) == address.to_string(),
            Host::Ipv6(_) => true,
            Host::Domain(name) => !name.ends_with('.'),
        };
        if plain && port != 0 { Ok(Self { url, host, port }) } else { Err(Blocked::Form) }
    }

    /// Reads the `Location` of an answer that came from here.
    pub fn redirect(&self, location: &str) -> Result<Self, Blocked> {
        let first = location.find(['/', '?', '#', ':', '\\']).and_then(|at| location[at..].chars().next());
        if first == Some(':') {
            return Self::parse(location);
        }
        if location.starts_with("//") {
            return Self::parse(&format!("{}:{location}", self.url.scheme()));
        }
        if location.chars().any(char::is_control) || location.contains('\\') {
            return Err(Blocked::Form);
        }
        let url = self.url.join(location).map_err(|_| Blocked::Form)?;
        Self::parse(url.as_str())
    }

    /// The URL, without a fragment.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Tells whether two destinations are one server, as far as anyone can tell from outside.
    pub fn same_origin(&self, other: &Self) -> bool {
        self.url.origin() == other.url.origin()
    }

    /// The host in its one canonical spelling.
    pub(super) fn host_text(&self) -> String {
        self.host.to_string()
    }

    pub(super) fn literal(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }

    /// Tells whether the name stands for this machine or for a cloud's metadata, whatever it resolves to.
    pub(super) fn has_forbidden_name(&self) -> bool {
        let Host::Domain(name) = &self.host else { return false };
        name == "localhost"
            || name.ends_with(".localhost")
            || matches!(name.as_str(), "metadata" | "metadata.google.internal" | "metadata.goog" | "instance-data")
    }
}

fn host_of(authority: &str) -> &str {
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_urls_are_read() {
        for (text, host, port) in [
            ("http://example.com", "example.com", 80),
            ("HTTPS://Example.COM/a?b=c\\d#e", "example.com", 443),
            ("http://1.2.3.4:8080/", "1.2.3.4", 8080),
            ("http://[2606:4700::1111]:8443/x", "[2606:4700::1111]", 8443),
            ("https://bücher.example/ä", "xn--bcher-kva.example", 443),
        ] {
            let destination = Destination::parse(text).expect(text);
            assert_eq!((destination.host_text().as_str(), destination.port), (host, port), "{text}");
            assert_eq!(destination.url().fragment(), None);
        }
    }

    #[test]
    fn a_relative_location_stays_and_an_absolute_one_moves() {
        let from = Destination::parse("https://example.com/a/b?c").expect("plain");
        for (location, to) in [
            ("d", "https://example.com/a/d"),
            ("/d", "https://example.com/d"),
            ("?d=1:2", "https://example.com/a/b?d=1:2"),
            ("/d:e", "https://example.com/d:e"),
            ("//other.example/d", "https://other.example/d"),
            ("http://other.example", "http://other.example/"),
            ("", "https://example.com/a/b?c"),
        ] {
            assert_eq!(from.redirect(location).expect(location).url().as_str(), to, "{location}");
        }
    }

    #[test]
    fn a_location_of_another_form_is_refused() {
        let from = Destination::parse("https://example.com/").expect("plain");
        for location in [
            "/\\127.0.0.1",
            "\\\\127.0.0.1",
            "http:127.0.0.1",
            "http:/127.0.0.1",
            "https:///127.0.0.1",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "//a@127.0.0.1",
            "//127.1",
            "/a\r\nb",
        ] {
            assert!(from.redirect(location).is_err(), "{location}");
        }
    }
}
