//! The system of record behind requests: its client and its server.
