//! Why an operation inside a transaction stopped, and what that means for the transaction.

use state::StateError;

/// Why an operation stopped.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The rules of the record refuse it; the transaction is sound.
    Refused(StateError),
    /// PostgreSQL or the way to it failed; the transaction cannot be committed as it is.
    Sql(sqlx::Error),
}

/// What an operation inside a transaction returns.
pub(crate) type Written<T> = Result<T, Fault>;

/// What may be done after PostgreSQL failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Another transaction was in the way; the same again may go better. The word is the metric's label.
    Contended(&'static str),
    /// The connection is gone or useless.
    Lost,
    /// The statement itself was refused, and will be again.
    Refused,
}

impl From<StateError> for Fault {
    fn from(error: StateError) -> Self {
        Self::Refused(error)
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl Fault {
    /// The error for the caller.
    pub(crate) fn into_error(self) -> StateError {
        match self {
            Self::Refused(error) => error,
            Self::Sql(error) => state_error(&error),
        }
    }
}

/// Judges what PostgreSQL says.
pub(crate) fn verdict(error: &sqlx::Error) -> Verdict {
    let sqlx::Error::Database(database) = error else {
        return match error {
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::RowNotFound => Verdict::Refused,
            _ => Verdict::Lost,
        };
    };
    match database.code().as_deref().unwrap_or_default() {
        "40001" => Verdict::Contended("serialization"),
        "40P01" => Verdict::Contended("deadlock"),
        "55P03" => Verdict::Contended("lock_timeout"),
        "57014" => Verdict::Contended("statement_timeout"),
        // A prepared statement that a pooler or a migration has taken away comes back on another connection.
        "26000" | "0A000" => Verdict::Lost,
        code if ["08", "57", "58", "53", "XX", "25"].iter().any(|class| code.starts_with(class)) => Verdict::Lost,
        _ => Verdict::Refused,
    }
}

/// Translates what PostgreSQL says.
pub(crate) fn state_error(error: &sqlx::Error) -> StateError {
    match error {
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::RowNotFound => StateError::Corrupt(error.to_string()),
        sqlx::Error::PoolTimedOut => {
            StateError::Unavailable("no connection to PostgreSQL became free in time".to_owned())
        }
        sqlx::Error::PoolClosed => StateError::Closed,
        sqlx::Error::Database(database) => match database.code().as_deref().unwrap_or_default() {
            "53100" => StateError::Unavailable("PostgreSQL's disk is full; free some space and try again".to_owned()),
            // Data that a column cannot hold, such as text with a zero byte.
            code if code.starts_with("22") => StateError::Corrupt(error.to_string()),
            _ => StateError::Unavailable(error.to_string()),
        },
        _ => StateError::Unavailable(error.to_string()),
    }
}
