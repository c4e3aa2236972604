//! Token buckets, decided by Redis itself: by one clock, and one after the other.

use deadpool_redis::redis::{self, Cmd, cmd};

/// How a bucket is now: `missing` from a full one, with time counted in seconds of Redis' own clock. A clock that jumps
/// back stops the filling and no more. What is of another kind is deleted.
macro_rules! filled {
    ($rest:literal) => {
        concat!(
            "local capacity, rate = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', KEYS[1]) end
local kept = redis.call('HMGET', KEYS[1], 'missing', 'at')
local passed = math.max(0, now - (tonumber(kept[2] or now) or now))
local missing = math.max(0, (tonumber(kept[1] or 0) or 0) - passed * rate)
local function keep()
    if missing <= 0 then return redis.call('DEL', KEYS[1]) end
    redis.call('HSET', KEYS[1], 'missing', string.format('%.17g', missing), 'at', string.format('%.17g', now))
    redis.call('PEXPIRE', KEYS[1], math.ceil(math.min(missing / rate * 1000 + 1000, 31536000000)))
end
",
            $rest
        )
    };
}

/// Capacity, tokens a second, amount: 0 when they were taken, otherwise the microseconds until they are there.
pub(crate) const TAKE: &str = filled!(
    "local amount = tonumber(ARGV[3])
local short = missing + math.min(amount, capacity) - capacity
if short > 0.001 then return math.ceil(math.min(short / rate * 1000000, 31536000000000)) end
missing = missing + amount
keep()
return 0"
);

/// Capacity, tokens a second, taken, used: always 0.
pub(crate) const SETTLE: &str = filled!(
    "missing = math.max(0, missing - tonumber(ARGV[3]) + tonumber(ARGV[4]))
keep()
return 0"
);

/// A script on one key.
pub(crate) struct Script {
    text: &'static str,
    name: String,
}

impl Script {
    pub(crate) fn new(text: &'static str) -> Self {
        Self { text, name: redis::Script::new(text).get_hash().to_owned() }
    }

    /// Calls it by its name, which Redis knows if it was sent before.
    pub(crate) fn by_name(&self, key: &str, numbers: &[f64]) -> Cmd {
        call("EVALSHA", &self.name, key, numbers)
    }

    /// Sends it along.
    pub(crate) fn by_text(&self, key: &str, numbers: &[f64]) -> Cmd {
        call("EVAL", self.text, key, numbers)
    }
}

fn call(command: &str, script: &str, key: &str, numbers: &[f64]) -> Cmd {
    let mut call = cmd(command);
    call.arg(script).arg(1).arg(key).arg(numbers);
    call
}
