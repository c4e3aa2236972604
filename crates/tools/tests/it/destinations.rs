//! Destinations that no model may reach: every one ends in `blocked_destination`, and nothing is connected to.

use std::sync::Arc;

use serde_json::json;
use tools::egress::{Blocked, Destination, Egress, EgressError, EgressOptions, Resolver};

use crate::support::{Caller, Names, Server, host_port, ok, opened};

/// Listens on every local address, so that any connection to this machine is counted.
async fn listener() -> Server {
    let serve = |_, _| async {};
    match std::net::TcpListener::bind("[::]:0") {
        Ok(probe) => {
            drop(probe);
            Server::with("[::]:0", serve).await
        }
        Err(_) => Server::with("0.0.0.0:0", serve).await,
    }
}

/// Settings under which only the address can be the reason of a refusal.
fn every_port(port: u16, resolver: Arc<dyn Resolver>) -> EgressOptions {
    EgressOptions { ports: vec![80, 443, port], resolver, ..EgressOptions::default() }
}

const HOSTS: [&str; 66] = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",
    "0x7f.1",
    "0x7f000001",
    "0X7F.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "00000127.0.0.1",
    "127.0.0.1.",
    "0",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:0:127.0.0.1]",
    "[::127.0.0.1]",
    "[::169.254.169.254]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::169.254.169.254]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[fe80::1%25lo]",
    "[fe80::1%lo]",
    "[fe80::1]",
    "[fc00::1]",
    "[fdff::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "169.254.169.254",
    "169.254.170.2",
    "2852039166",
    "metadata.google.internal",
    "METADATA.google.Internal",
    "metadata.google.internal.",
    "metadata",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
    "ｌｏｃａｌｈｏｓｔ",
    "100.100.100.200",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "192.0.0.192",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "255.255.255.255",
    "①②⑦.⓪.⓪.①",
    "１２７.０.０.１",
    "127。0。0。1",
    "127%2e0.0.1",
    "%31%32%37.0.0.1",
    "good@127.0.0.1",
    "good:pass@127.0.0.1",
    "127.0.0.1\\@good",
    "good\\@127.0.0.1",
    "good.test@127.0.0.1",
];

#[tokio::test]
async fn no_spelling_of_a_forbidden_host_is_connected_to() {
    let target = listener().await;
    let port = target.address.port();
    let names = Names::with(&[]);
    let caller = Caller::http(&json!({}), every_port(port, names.clone()));
    for host in HOSTS {
        for url in [
            format!("http://{host}:{port}/"),
            format!("http://{host}/"),
            format!("http://{host}"),
            format!("https://{host}:{port}/"),
            format!("HTTP://{host}:{port}?x"),
        ] {
            for method in ["GET", "POST"] {
                let error = caller.refused(json!({ "method": method, "url": url })).await;
                assert_eq!(error.code, "blocked_destination", "{url}: {}", error.message);
                assert!(!error.message.contains("may not be called: port"), "refused for its port alone: {url}");
            }
        }
    }
    assert_eq!(names.lookups(), 0);
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn no_other_form_of_url_is_connected_to() {
    let target = listener().await;
    let port = target.address.port();
    let caller = Caller::http(&json!({}), every_port(port, Names::with(&[])));
    for url in [
        "file:///etc/passwd".to_owned(),
        "gopher://127.0.0.1/x".to_owned(),
        format!("ftp://127.0.0.1:{port}/"),
        format!("ws://127.0.0.1:{port}/"),
        "data:text/plain,hello".to_owned(),
        "javascript:alert(1)".to_owned(),
        "unix:/run/docker.sock".to_owned(),
        "http+unix://%2Frun%2Fdocker.sock/x".to_owned(),
        format!("http:127.0.0.1:{port}"),
        format!("http:/127.0.0.1:{port}"),
        format!("http:///127.0.0.1:{port}"),
        format!("http:\\\\127.0.0.1:{port}"),
        format!("//127.0.0.1:{port}/"),
        format!("127.0.0.1:{port}"),
        format!(" http://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{port}\t"),
        format!("ht\ntp://127.0.0.1:{port}"),
        format!("http://127.0.0.1\r\nHost: x:{port}/"),
        "http://".to_owned(),
        "http://:80".to_owned(),
        "http://[::1".to_owned(),
        "http://127.0.0.1:99999".to_owned(),
        "nonsense".to_owned(),
    ] {
        let error = caller.refused(json!({ "method": "GET", "url": url })).await;
        assert_eq!(error.code, "blocked_destination", "{url}: {}", error.message);
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn a_name_with_any_forbidden_address_is_blocked() {
    let target = listener().await;
    let port = target.address.port();
    let names = Names::with(&[
        ("loopback.test", &[&["127.0.0.1"]]),
        ("loopback6.test", &[&["::1"]]),
        ("mixed.test", &[&["93.184.215.14", "127.0.0.1"]]),
        ("mixed6.test", &[&["2606:4700::1111", "fe80::1"]]),
        ("metadata.test", &[&["169.254.169.254"]]),
        ("mapped.test", &[&["::ffff:127.0.0.1"]]),
        ("nat64.test", &[&["64:ff9b::7f00:1"]]),
    ]);
    let caller = Caller::http(&json!({}), every_port(port, names.clone()));
    let hosts =
        ["loopback.test", "loopback6.test", "mixed.test", "mixed6.test", "metadata.test", "mapped.test", "nat64.test"];
    for host in hosts {
        let error = caller.refused(json!({ "method": "GET", "url": format!("http://{host}:{port}/") })).await;
        assert_eq!(error.code, "blocked_destination", "{host}");
        assert!(!error.message.contains("127.0.0.1"), "the refusal tells what the name resolves to");
    }
    assert_eq!(names.lookups(), hosts.len());
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn a_name_that_turns_bad_is_blocked_the_next_time() {
    let names = Names::with(&[("rebinding.test", &[&["93.184.215.14"], &["127.0.0.1"]])]);
    let egress = Egress::new(EgressOptions { resolver: names, ..EgressOptions::default() });
    let destination = Destination::parse("http://rebinding.test/").expect("plain");
    let admitted = egress.admit(&destination, &[]).await.expect("public");
    assert_eq!(admitted.addresses(), ["93.184.215.14:80".parse().expect("an address")]);
    let error = egress.admit(&destination, &[]).await.expect_err("private");
    assert!(matches!(error, EgressError::Blocked(Blocked::Address { .. })));
}

/// Two servers at one port of two addresses: the name means the first, and from the second look-up on the other.
#[tokio::test]
async fn the_connection_goes_to_the_address_that_was_checked() {
    let checked = Server::answering(|_| ok("checked")).await;
    let port = checked.address.port();
    let other = Server::with(&format!("127.0.0.2:{port}"), |_, _| async {}).await;
    let names = Names::with(&[("service.test", &[&["127.0.0.1"], &["127.0.0.2"]])]);
    let options = EgressOptions {
        allow_private: vec![host_port(&format!("service.test:{port}"))],
        resolver: names.clone(),
        ..EgressOptions::default()
    };
    let caller = Caller::http(&json!({}), options);

    let answer = caller.fetch(json!({ "method": "GET", "url": format!("http://service.test:{port}/") })).await;

    assert_eq!(answer["body"], "checked");
    assert_eq!(names.lookups(), 1);
    assert_eq!(other.connections(), 0);
    let host = format!("service.test:{port}");
    assert_eq!(checked.requests()[0].header("host"), Some(host.as_str()));
}

#[tokio::test]
async fn only_the_operator_opens_a_private_destination_and_only_that_one() {
    let server = Server::answering(|_| ok("inside")).await;
    let port = server.address.port();
    let url = server.url("/");
    let get = |url: &str| json!({ "method": "GET", "url": url });

    let agent_alone = Caller::http(&json!({ "allow": [server.address.to_string()] }), EgressOptions::default());
    assert_eq!(agent_alone.refused(get(&url)).await.code, "blocked_destination");
    assert_eq!(server.connections(), 0);

    let operator = Caller::http(&json!({}), opened(&[server.address]));
    assert_eq!(operator.fetch(get(&url)).await["body"], "inside");
    let connections = server.connections();
    for other in [
        format!("http://127.0.0.2:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://127.1:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        "http://127.0.0.1/".to_owned(),
    ] {
        assert_eq!(operator.refused(get(&other)).await.code, "blocked_destination", "{other}");
    }
    assert_eq!(server.connections(), connections);
}

#[tokio::test]
async fn no_setting_opens_metadata() {
    let names = Names::with(&[("metadata.test", &[&["169.254.169.254"]])]);
    let allow_private = ["169.254.169.254:80", "metadata.google.internal:80", "metadata.test:80", "0.0.0.0:80"];
    let options = EgressOptions {
        allow_private: allow_private.into_iter().map(host_port).collect(),
        resolver: names,
        ..EgressOptions::default()
    };
    let egress = Egress::new(options);
    for url in ["http://169.254.169.254/", "http://metadata.test/", "http://0.0.0.0/"] {
        let error = egress.admit(&Destination::parse(url).expect(url), &[]).await.expect_err(url);
        assert!(matches!(error, EgressError::Blocked(Blocked::Address { .. })), "{url}");
    }
}

#[tokio::test]
async fn only_the_usual_ports_and_those_that_were_named_may_be_called() {
    let names = Names::with(&[("public.test", &[&["93.184.215.14"]])]);
    let egress = Egress::new(EgressOptions { resolver: names, ..EgressOptions::default() });
    let admit = async |url: &str, allow: &[&str]| {
        let allow: Vec<String> = allow.iter().map(|entry| (*entry).to_owned()).collect();
        egress.admit(&Destination::parse(url).expect(url), &allow).await.map(drop)
    };
    for url in ["http://public.test", "https://public.test", "http://public.test:8080", "https://public.test:8443"] {
        admit(url, &[]).await.expect(url);
    }
    for port in [1, 22, 25, 5432, 6379, 9200, 65_535] {
        let error = admit(&format!("http://public.test:{port}"), &[]).await.expect_err("closed");
        assert!(matches!(error, EgressError::Blocked(Blocked::Port { .. })), "{port}");
    }
    admit("http://public.test:9200", &["public.test:9200"]).await.expect("named");
    assert!(admit("http://public.test:9200", &["public.test"]).await.is_err());
    assert!(admit("http://public.test:9201", &["public.test:9200"]).await.is_err());
    assert!(admit("http://public.test", &["other.test"]).await.is_err());
}

#[tokio::test]
async fn the_platforms_own_ports_stay_closed_even_when_they_are_named() {
    let server = Server::answering(|_| ok("the platform")).await;
    let mut options = opened(&[server.address]);
    options.own_ports = vec![server.address.port()];
    options.ports.push(server.address.port());
    let caller = Caller::http(&json!({ "allow": [server.address.to_string()] }), options);
    let error = caller.refused(json!({ "method": "GET", "url": server.url("/tasks") })).await;
    assert_eq!(error.code, "blocked_destination");
    assert_eq!(server.connections(), 0);
    assert_eq!(EgressOptions::default().own_ports, [7272, 8001, 8002, 8003, 8004, 8005, 9098]);
}

#[tokio::test]
async fn an_agents_list_narrows_what_the_operator_opened() {
    let server = Server::answering(|_| ok("x")).await;
    let get = json!({ "method": "GET", "url": server.url("/") });
    let other = Caller::http(&json!({ "allow": ["example.com"] }), opened(&[server.address]));
    assert_eq!(other.refused(get.clone()).await.code, "blocked_destination");
    assert_eq!(server.connections(), 0);
    let same =
        Caller::http(&json!({ "allow": ["example.com", server.address.to_string()] }), opened(&[server.address]));
    assert_eq!(same.fetch(get).await["status"], 200);
}

#[tokio::test]
async fn a_name_without_an_address_is_told_apart() {
    let caller = Caller::http(&json!({}), EgressOptions { resolver: Names::with(&[]), ..EgressOptions::default() });
    let error = caller.refused(json!({ "method": "GET", "url": "https://no-such-name.test/a?secret=1" })).await;
    assert_eq!(error.code, "unknown_host");
    assert!(!error.message.contains("secret"));
}
