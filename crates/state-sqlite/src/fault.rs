//! Why an operation inside a transaction stopped, and what that means for the transaction and for the store.

use rusqlite::ErrorCode;
use state::StateError;

/// Why an operation stopped.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The rules of the record refuse it; the transaction is sound.
    Refused(StateError),
    /// SQLite failed; nothing of this operation may be believed.
    Sql(rusqlite::Error),
}

/// What an operation inside a transaction returns.
pub(crate) type Written<T> = Result<T, Fault>;

impl From<StateError> for Fault {
    fn from(error: StateError) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl Fault {
    /// Tells whether the files can no longer be trusted: after a failed read, write or sync nobody knows what the disk holds.
    pub(crate) fn is_fatal(&self) -> bool {
        matches!(self, Self::Sql(error) if is_fatal(error))
    }

    /// The error for the caller.
    pub(crate) fn into_error(self) -> StateError {
        match self {
            Self::Refused(error) => error,
            Self::Sql(error) => state_error(&error),
        }
    }
}

/// Tells whether the files can no longer be trusted.
pub(crate) fn is_fatal(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::CannotOpen)
    )
}

/// Translates what SQLite says.
pub(crate) fn state_error(error: &rusqlite::Error) -> StateError {
    match error {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => StateError::Corrupt(error.to_string()),
        _ => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StateError::Corrupt(error.to_string()),
            Some(ErrorCode::DiskFull) => {
                StateError::Unavailable("the disk is full; free some space and try again".to_owned())
            }
            _ => StateError::Unavailable(error.to_string()),
        },
    }
}
