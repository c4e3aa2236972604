//! A server over HTTP, and an authorization server beside it, whose every answer a test chooses.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// How the server behaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manners {
    /// Answers as events instead of JSON.
    pub(crate) events: bool,
    /// Hands out sessions, and forgets them after this many calls.
    pub(crate) session_calls: Option<u32>,
    /// Wants a token.
    pub(crate) token: bool,
    /// Sends every request elsewhere.
    pub(crate) redirect: Option<String>,
    /// Breaks off the events of a call after its first one, and gives the answer to who asks again.
    pub(crate) breaks_off: bool,
    /// Answers a call with this instead of a message.
    pub(crate) garbage: Option<String>,
    /// What the metadata says instead of the truth.
    pub(crate) lies: HashMap<&'static str, Value>,
    /// What the authorization server says that it is when it sends the browser back.
    pub(crate) iss: Option<String>,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

#[derive(Default)]
struct Room {
    manners: Manners,
    at: String,
    seen: Mutex<Vec<Seen>>,
    sessions: Mutex<HashMap<String, u32>>,
    count: Mutex<u32>,
    challenge: Mutex<String>,
    pending: Mutex<Option<Value>>,
}

/// The server.
#[derive(Clone)]
pub(crate) struct Remote {
    pub(crate) address: SocketAddr,
    room: Arc<Room>,
}

impl Remote {
    pub(crate) async fn start(manners: Manners) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let room = Arc::new(Room { manners, at: format!("http://{address}"), ..Room::default() });
        let app = Router::new().fallback(answer).with_state(Arc::clone(&room));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, room }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/mcp", self.room.at)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.room.seen.lock().unwrap().clone()
    }

    /// The requests of one method of the protocol.
    pub(crate) fn of(&self, method: &str) -> Vec<Seen> {
        let of = |seen: &Seen| serde_json::from_str::<Value>(&seen.body).is_ok_and(|body| body["method"] == method);
        self.seen().into_iter().filter(of).collect()
    }
}

async fn answer(State(room): State<Arc<Room>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let body = String::from_utf8_lossy(&body).into_owned();
    let path = uri.path().to_owned();
    room.seen.lock().unwrap().push(Seen {
        method: method.clone(),
        path: uri.to_string(),
        headers: headers.clone(),
        body: body.clone(),
    });
    if let Some(location) = &room.manners.redirect {
        return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location.clone())]).into_response();
    }
    match path.as_str() {
        "/mcp" => protocol(&room, &method, &headers, &body),
        "/.well-known/oauth-protected-resource/mcp" | "/.well-known/oauth-protected-resource" => {
            told(&room, json!({ "resource": format!("{}/mcp", room.at), "authorization_servers": [room.at] }))
        }
        "/.well-known/oauth-authorization-server" => {
            let at = &room.at;
            told(
                &room,
                json!({
                    "issuer": at,
                    "authorization_endpoint": format!("{at}/authorize"),
                    "token_endpoint": format!("{at}/token"),
                    "registration_endpoint": format!("{at}/register"),
                    "response_types_supported": ["code"],
                    "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
                    "code_challenge_methods_supported": ["S256"],
                    "token_endpoint_auth_methods_supported": ["none", "client_secret_post"],
                    "authorization_response_iss_parameter_supported": true,
                }),
            )
        }
        "/register" => {
            let mut client: Value = serde_json::from_str(&body).unwrap_or_default();
            client["client_id"] = "client-1".into();
            (StatusCode::CREATED, axum::Json(client)).into_response()
        }
        "/authorize" => {
            let query: HashMap<String, String> =
                url::Url::parse(&format!("{}{uri}", room.at)).unwrap().query_pairs().into_owned().collect();
            room.challenge.lock().unwrap().clone_from(&query["code_challenge"]);
            assert_eq!(
                (query["code_challenge_method"].as_str(), query["resource"].as_str()),
                ("S256", format!("{}/mcp", room.at).as_str())
            );
            let iss = room.manners.iss.clone().unwrap_or_else(|| room.at.clone());
            let back = format!("{}?code=code-1&state={}&iss={iss}", query["redirect_uri"], query["state"]);
            (StatusCode::FOUND, [(header::LOCATION, back)]).into_response()
        }
        "/token" => token(&body),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn told(room: &Room, mut metadata: Value) -> Response {
    for (field, lie) in &room.manners.lies {
        if metadata.get(field).is_some() {
            metadata[*field] = lie.clone();
        }
    }
    axum::Json(metadata).into_response()
}

fn token(body: &str) -> Response {
    let form: HashMap<String, String> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    let good = match field("grant_type") {
        "authorization_code" => field("code") == "code-1" && field("code_verifier").len() >= 43,
        "client_credentials" => field("client_id") == "robot" && field("client_secret") == "canary-secret",
        "refresh_token" => field("refresh_token") == "refresh-1",
        _ => false,
    };
    if !good || field("resource").is_empty() {
        return (StatusCode::BAD_REQUEST, axum::Json(json!({ "error": "invalid_grant" }))).into_response();
    }
    axum::Json(
        json!({ "access_token": "token-1", "token_type": "Bearer", "expires_in": 3600, "refresh_token": "refresh-1" }),
    )
    .into_response()
}

fn protocol(room: &Room, method: &Method, headers: &HeaderMap, body: &str) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if room.manners.token && text("authorization") != "Bearer token-1" {
        let challenge = format!("Bearer resource_metadata=\"{}/.well-known/oauth-protected-resource/mcp\"", room.at);
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response();
    }
    if method == Method::GET {
        let resumes = !text("last-event-id").is_empty();
        let pending = if resumes { room.pending.lock().unwrap().take() } else { None };
        return match pending {
            Some(message) => events(&format!("id: 2\ndata: {message}\n\n")),
            None => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        };
    }
    if method == Method::DELETE {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let message: Value = serde_json::from_str(body).unwrap_or_default();
    let (id, name) = (message["id"].clone(), message["method"].as_str().unwrap_or_default());
    if let Some(calls) = room.manners.session_calls
        && name != "initialize"
        && name != "server/discover"
    {
        let mut sessions = room.sessions.lock().unwrap();
        let Some(used) = sessions.get_mut(text("mcp-session-id")) else { return StatusCode::NOT_FOUND.into_response() };
        if name == "tools/call" {
            *used += 1;
            if *used > calls {
                sessions.clear();
                return StatusCode::NOT_FOUND.into_response();
            }
        }
    }
    let result = match name {
        "initialize" => json!({
            "protocolVersion": "2025-06-18", "capabilities": { "tools": {} }, "serverInfo": { "name": "remote", "version": "1" }
        }),
        "tools/list" => {
            json!({ "tools": [{ "name": "echo", "description": "A tool.", "inputSchema": { "type": "object" } }] })
        }
        "tools/call" => {
            if let Some(garbage) = &room.manners.garbage {
                return ([(header::CONTENT_TYPE, "application/json")], garbage.clone()).into_response();
            }
            json!({ "content": [{ "type": "text", "text": message["params"]["arguments"].to_string() }] })
        }
        _ if id.is_null() => return StatusCode::ACCEPTED.into_response(),
        _ => return (StatusCode::BAD_REQUEST, "what is that?").into_response(),
    };
    let answer = json!({ "jsonrpc": "2.0", "id": id, "result": result });
    let mut response = if room.manners.breaks_off && name == "tools/call" {
        *room.pending.lock().unwrap() = Some(answer);
        events("id: 1\nretry: 10\ndata:\n\n")
    } else if room.manners.events {
        events(&format!(": comment\n\nevent: message\ndata: {answer}\n\n"))
    } else {
        axum::Json(answer).into_response()
    };
    if room.manners.session_calls.is_some() && name == "initialize" {
        let mut count = room.count.lock().unwrap();
        *count += 1;
        let session = format!("session-{count}");
        room.sessions.lock().unwrap().insert(session.clone(), 0);
        response.headers_mut().insert("mcp-session-id", session.parse().unwrap());
    }
    response
}

fn events(text: &str) -> Response {
    ([(header::CONTENT_TYPE, "text/event-stream")], text.to_owned()).into_response()
}
