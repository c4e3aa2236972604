//! The fake servers as the provider suite drives them.

use llm::contract::wire::{HttpEnd, HttpReply, Seen, Server};

use crate::fake_http::{FakeHttp, Reply};

impl From<HttpReply> for Reply {
    fn from(reply: HttpReply) -> Self {
        let raw = reply
            .headers
            .iter()
            .fold(Self::bare(reply.status, reply.body), |raw, (name, value)| raw.header(name, value));
        match reply.end {
            HttpEnd::Proper => raw,
            HttpEnd::Broken(at) => raw.broken_at(at),
            HttpEnd::Silent(at) => raw.silent_at(at),
            HttpEnd::Refused => Self::closed(),
        }
    }
}

impl Server for FakeHttp {
    fn push(&self, reply: HttpReply) {
        Self::push(self, reply.into());
    }

    fn otherwise(&self, reply: HttpReply) {
        let reply = Reply::from(reply);
        Self::otherwise(self, move |_| reply.clone());
    }

    fn seen(&self) -> Vec<Seen> {
        self.requests().into_iter().map(|seen| Seen { path: seen.path, body: seen.body }).collect()
    }
}
