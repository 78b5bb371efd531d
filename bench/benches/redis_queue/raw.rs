//! The same commands and scripts with the same arguments, sent by the client alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use expirer_bench::queue::{BATCH, WORKERS};
use expirer_bench::report::Outcome;
use expirer_core::Timer;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, Script};

use crate::PREFIX;

const SCHEDULE: &str = include_str!("../../../backends/src/redis/scripts/queue/schedule.lua");
const LEASE: &str = include_str!("../../../backends/src/redis/scripts/queue/lease.lua");
const ACK: &str = include_str!("../../../backends/src/redis/scripts/queue/ack.lua");
/// As many as our queue puts into one call.
const ITEMS: usize = 256;
const CLAIM: usize = 128;
/// The settings of our connection.
const TIMEOUT: Duration = Duration::from_millis(1500);

/// A connection and the names of what is on the server.
#[derive(Clone)]
pub(crate) struct Raw {
    connection: MultiplexedConnection,
    keys: [String; 3],
    channel: String,
    scripts: [String; 3],
    token: Arc<AtomicU64>,
}

impl Raw {
    pub(crate) async fn open(url: &str) -> Outcome<Self> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        let client = Client::open(url)?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        for text in [SCHEDULE, LEASE, ACK] {
            Script::new(text).load_async(&mut connection).await?;
        }
        Ok(Self {
            connection,
            keys: ["due", "leased", "held"].map(|key| format!("{{{PREFIX}:q:0}}:{key}")),
            channel: format!("{PREFIX}:q:wake"),
            scripts: [SCHEDULE, LEASE, ACK].map(|text| Script::new(text).get_hash().to_owned()),
            token: Arc::default(),
        })
    }

    fn evalsha(&self, script: usize, keys: &[String]) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.scripts[script]).arg(keys.len()).arg(keys);
        cmd
    }

    pub(crate) async fn schedule(&self, timers: &[Timer]) -> Outcome<()> {
        let mut connection = self.connection.clone();
        for batch in timers.chunks(BATCH) {
            let mut pipeline = Pipeline::new();
            for piece in batch.chunks(ITEMS) {
                let mut cmd = self.evalsha(0, &self.keys);
                cmd.arg(&self.channel);
                for timer in piece {
                    cmd.arg(timer.due.as_millis()).arg(timer.id.as_str());
                }
                pipeline.add_command(cmd);
            }
            pipeline.exec_async(&mut connection).await?;
        }
        Ok(())
    }

    pub(crate) async fn drain(&self) -> Outcome<usize> {
        let workers: Vec<_> = (0..WORKERS).map(|_| tokio::spawn(self.clone().work())).collect();
        let mut done = 0;
        for worker in workers {
            done += worker.await??;
        }
        Ok(done)
    }

    async fn work(mut self) -> Outcome<usize> {
        let mut done = 0;
        loop {
            let token = self.token.fetch_add(1, Ordering::Relaxed);
            let mut lease = self.evalsha(1, &self.keys);
            lease.arg(CLAIM).arg(10_000).arg(token).arg("");
            let answer: Vec<Vec<u8>> = lease.query_async(&mut self.connection).await?;
            let ids: Vec<_> = answer[1..].chunks_exact(3).map(|timer| &timer[0]).collect();
            if ids.is_empty() {
                return Ok(done);
            }
            let mut ack = self.evalsha(2, &self.keys[1..]);
            ack.arg(token).arg(&ids);
            ack.exec_async(&mut self.connection).await?;
            done += ids.len();
        }
    }

    /// `ZADD`, pipelined, with so many members each, on the queue's own set.
    pub(crate) async fn zadd(&self, timers: &[Timer], each: usize) -> Outcome<()> {
        let mut connection = self.connection.clone();
        for batch in timers.chunks(BATCH) {
            let mut pipeline = Pipeline::new();
            for piece in batch.chunks(each) {
                let cmd = pipeline.cmd("ZADD").arg(&self.keys[0]);
                piece.iter().for_each(|timer| {
                    cmd.arg(timer.due.as_millis()).arg(timer.id.as_str());
                });
            }
            pipeline.exec_async(&mut connection).await?;
        }
        Ok(())
    }
}
