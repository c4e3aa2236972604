//! The config service as its users meet it: through its folder and its REST API, with the real record behind it.

mod api;
mod copies;
mod examples;
mod hostile;
mod house;
mod reload;
mod restart;
