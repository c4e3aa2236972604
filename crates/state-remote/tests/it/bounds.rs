//! What is too large or too long is refused with the limit named, on both sides.

use domain::Namespace;
use state::{State, StateError, TaskFilter};
use state_remote::{ClientOptions, ServerOptions};

use crate::support::{Platform, client, model_step};

#[tokio::test]
async fn a_request_above_the_clients_limit_is_not_sent() {
    let platform = Platform::start().await;
    let options = ClientOptions { max_request_bytes: 10_000, ..ClientOptions::default() };
    let network = crate::network::Network::around(platform.requests.clone());
    let remote = client(network.clone(), options);
    let lease = platform.running().await;
    let refused = remote.append(lease, vec![model_step(1, platform.now(), "x".repeat(10_000))]).await;
    assert!(matches!(refused, Err(StateError::TooLarge(_))), "{refused:?}");
    assert_eq!(network.sent_to("state.append"), 0);
}

#[tokio::test]
async fn a_request_above_the_servers_limit_is_refused() {
    let options = ServerOptions { max_request_bytes: 10_000, ..ServerOptions::default() };
    let platform = Platform::start_on(std::sync::Arc::new(bus::InprocBus::default()), options).await;
    let lease = platform.running().await;
    let refused = platform.client().append(lease, vec![model_step(1, platform.now(), "x".repeat(10_000))]).await;
    let text = refused.as_ref().unwrap_err().to_string();
    assert!(matches!(refused, Err(StateError::TooLarge(_))) && text.contains("10000"), "{text}");
}

#[tokio::test]
async fn a_list_above_the_servers_limit_is_refused() {
    let platform = Platform::start().await;
    let space = Namespace::default();
    let refused = platform.client().tasks(&space, TaskFilter::default(), None, 10_001).await;
    assert!(matches!(refused, Err(StateError::TooLarge(_))), "{refused:?}");
    platform.client().tasks(&space, TaskFilter::default(), None, 10_000).await.unwrap();
}

#[tokio::test]
async fn numbers_pass_as_they_are() {
    let platform = Platform::start().await;
    let (space, now) = (Namespace::default(), platform.now());
    for text in ["0.1", "1.7976931348623157e308", "5e-324", "123456789.12345679", "18446744073709551615", "-0.0"] {
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        let condition = state::PutCondition::Always;
        let put = platform.client().put_value(&space, "s", "k", value.clone(), None, condition, now).await.unwrap();
        assert_eq!(put.value.to_string(), value.to_string());
        let found = platform.client().value(&space, "s", "k", now).await.unwrap().unwrap();
        assert_eq!(found.value.to_string(), value.to_string());
    }
}
