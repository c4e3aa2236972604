//! Versioned values.

use domain::{Namespace, Timestamp};
use state::{Page, PutCondition, StateValue};

crate::call::calls! {
    Value { namespace: Namespace, scope: String, key: String, now: Timestamp } -> Option<StateValue>,
        VALUE => |state| state.value(&namespace, &scope, &key, now);
    PutValue {
        namespace: Namespace,
        scope: String,
        key: String,
        value: serde_json::Value,
        expires_at: Option<Timestamp>,
        condition: PutCondition,
        now: Timestamp,
    } -> StateValue,
        PUT_VALUE => |state| state.put_value(&namespace, &scope, &key, value, expires_at, condition, now);
    DeleteValue { namespace: Namespace, scope: String, key: String } -> bool,
        DELETE_VALUE => |state| state.delete_value(&namespace, &scope, &key);
    Values { namespace: Namespace, scope: String, after: Option<String>, limit: u32, now: Timestamp } -> Page<StateValue>,
        VALUES, limit limit => |state| state.values(&namespace, &scope, after.as_deref(), limit, now);
}
