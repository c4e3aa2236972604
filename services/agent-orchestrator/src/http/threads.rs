//! Conversations that several tasks share.

use axum::Json;
use axum::extract::State;
use common::extract::{Path, Query};
use common::page::{Cursor, Limit};
use common::problem::{self, Kind, Problem};
use domain::ThreadId;
use serde::Deserialize;
use utoipa::IntoParams;
use wire::{MessageView, Page, ThreadView};

use super::App;
use super::caller::Caller;

/// Why a conversation cannot be shown.
pub(crate) struct ThreadError;

impl utoipa::IntoResponses for ThreadError {
    fn responses() -> problem::Responses {
        problem::responses(&[Kind::InvalidRequest, Kind::InvalidCursor, Kind::UnknownThread, Kind::Unavailable])
    }
}

/// The path of a conversation.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ThreadPath {
    /// The conversation's id.
    #[param(value_type = Uuid)]
    thread_id: ThreadId,
}

/// Which page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    pub(super) cursor: Option<Cursor>,
    /// How many items, 1 to 1000.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    pub(super) limit: Limit,
}

/// Lists conversations, the newest first.
#[utoipa::path(get, path = "/threads", operation_id = "thread_list", tag = "threads", params(PageQuery),
    responses((status = 200, description = "A page", body = Page<ThreadView>), ThreadError))]
pub(crate) async fn list_threads(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<ThreadView>>, Problem> {
    let scope = ("threads", &caller.namespace);
    let after = query.cursor.map(|cursor| cursor.after::<ThreadId>(&scope)).transpose()?;
    let page = app.state.threads(&caller.namespace, after, query.limit.get()).await?;
    let last = page.items.last().map(|thread| thread.id).filter(|_| page.more);
    let next_cursor = last.map(|id| Cursor::new(&scope, &id).as_str().to_owned());
    Ok(Json(Page { items: page.items.into_iter().map(ThreadView::from).collect(), next_cursor }))
}

/// Lists a conversation's messages, the oldest first.
#[utoipa::path(get, path = "/threads/{thread_id}/messages", operation_id = "thread_messages", tag = "threads",
    params(ThreadPath, PageQuery),
    responses((status = 200, description = "A page", body = Page<MessageView>), ThreadError))]
pub(crate) async fn thread_messages(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<MessageView>>, Problem> {
    let thread = path.thread_id;
    let scope = ("messages", &caller.namespace, thread);
    let after = query.cursor.map(|cursor| cursor.after::<u64>(&scope)).transpose()?.unwrap_or(0);
    let limit = query.limit.get();
    let found = app.state.thread_messages(&caller.namespace, thread, after, limit + 1).await?;
    let Some(mut messages) = found else {
        return Err(Problem::new(Kind::UnknownThread).detail(format!("thread {thread} does not exist")));
    };
    let more = messages.len() > limit as usize;
    messages.truncate(limit as usize);
    let last = messages.last().map(|message| message.seq).filter(|_| more);
    let next_cursor = last.map(|seq| Cursor::new(&scope, &seq).as_str().to_owned());
    Ok(Json(Page { items: messages.into_iter().map(MessageView::from).collect(), next_cursor }))
}
