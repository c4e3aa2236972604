//! The common course of a fault: tasks run, something happens, everything ends, and is checked.

use std::time::Duration;

use testkit::effect_sink::EffectSink;
use tokio::time::Instant;

use crate::backends::{Backends, OwnServers};
use crate::client::{Client, Load};
use crate::house::{House, Platform};
use crate::matrix::{DRAIN, until_nothing_is_slow};
use crate::verdict::{Allowed, Figures, check};

/// A platform with a client that has submitted nothing yet: on servers of its own, or on a part of those that all share.
pub(crate) struct Run<S = OwnServers> {
    pub(crate) servers: S,
    pub(crate) house: House,
    pub(crate) platform: Platform,
    pub(crate) client: Client,
    sink: EffectSink,
    record: u16,
}

impl Run {
    /// Starts everything, and waits until all can work.
    pub(crate) async fn start() -> Self {
        let (servers, backends) = OwnServers::start().await;
        let mut run = Self::prepare(servers, backends).await;
        run.platform = run.house.start(1).await;
        run
    }

    /// Starts nothing but the sink.
    pub(crate) async fn prepare(servers: OwnServers, backends: Backends) -> Self {
        let record = servers.postgres.port();
        Self::on(servers, backends, record).await
    }
}

impl Run<()> {
    /// Starts `copies` of every service where no server is harmed, and waits until all can work.
    pub(crate) async fn start_shared(copies: usize) -> Self {
        let backends = Backends::shared().await;
        let record = backends.postgres;
        let mut run = Self::on((), backends, record).await;
        run.platform = run.house.start(copies).await;
        run
    }

    /// Starts nothing but the sink, on shared servers of which `change` may put something in front.
    pub(crate) async fn prepare_shared(change: impl FnOnce(&mut Backends)) -> Self {
        let mut backends = Backends::shared().await;
        let record = backends.postgres;
        change(&mut backends);
        Self::on((), backends, record).await
    }
}

impl<S> Run<S> {
    async fn on(servers: S, backends: Backends, record: u16) -> Self {
        let sink = EffectSink::start(None).await.expect("the sink starts");
        let house = House::new(backends, &sink.address().to_string());
        let client = Client::new(&house.http, Load::USUAL);
        Self { servers, house, platform: Platform::default(), client, sink, record }
    }

    /// Works until some tasks run, so that what happens next happens to them.
    pub(crate) async fn until_busy(&mut self) {
        let urls = self.platform.urls();
        let deadline = Instant::now() + DRAIN;
        while self.sink.count().deliveries < 3 {
            self.client.round(&urls).await;
            assert!(Instant::now() < deadline, "nothing runs:\n{}", self.platform.logs());
        }
    }

    /// Works on for a while.
    pub(crate) async fn for_a_while(&mut self, time: Duration) {
        let urls = self.platform.urls();
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.client.round(&urls).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Works until all has ended, checks everything, and stops in order.
    pub(crate) async fn finish(mut self) -> Figures {
        let figures = self.verdict().await;
        self.platform.stop().await;
        figures
    }

    /// Works until all has ended, and checks everything.
    pub(crate) async fn verdict(&mut self) -> Figures {
        self.client.finish(&self.platform, DRAIN).await;
        until_nothing_is_slow(&self.client, &self.platform).await;
        self.until_ready().await;
        check(&mut self.client, &self.house, &self.platform, &self.sink, self.record, Allowed::Unknowns).await
    }

    /// Waits until all can work: what was away is found again without anybody's help.
    pub(crate) async fn until_ready(&mut self) {
        for service in self.platform.services.values_mut() {
            assert!(service.wait_ready(&self.house.http).await, "a service ended: {}", service.log());
        }
    }

    /// The record, asked around everything.
    pub(crate) fn record_url(&self) -> String {
        self.house.backends.record_url(self.record)
    }
}
