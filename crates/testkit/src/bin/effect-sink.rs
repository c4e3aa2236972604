//! `effect-sink FILE [ADDRESS]`: the sink as a process of its own. Its first line of output is `{"address":"…"}`.

use std::net::SocketAddr;
use std::path::PathBuf;

use testkit::effect_sink::EffectSink;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().map(PathBuf::from).ok_or("usage: effect-sink FILE [ADDRESS]")?;
    let address: SocketAddr = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned()).parse()?;
    let sink = EffectSink::start_at(address, Some(file)).await?;
    println!("{}", serde_json::json!({ "address": sink.address() }));
    sink.run().await;
    Ok(())
}
