//! The system of record in PostgreSQL.
