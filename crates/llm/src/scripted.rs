//! A model that plays a dialogue from a file, for tests, demonstrations and benchmarks.
