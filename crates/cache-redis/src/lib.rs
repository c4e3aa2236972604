//! What may be forgotten, in Redis.
