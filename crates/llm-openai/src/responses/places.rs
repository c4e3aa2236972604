//! Which piece of the output an event is about, for servers that say it by the piece's id alone.

use std::collections::HashMap;

use serde_json::{Value, json};

/// The pieces of the output that have begun, by their ids.
#[derive(Debug, Default)]
pub(super) struct Places {
    begun: HashMap<String, u64>,
    next: u64,
}

impl Places {
    /// Fills in the numbers of the piece and of its part where an event leaves them out. An event about a piece that has
    /// not begun stays as it is, and is then no event of an answer.
    pub(super) fn fill(&mut self, event: &mut Value) {
        let Some(kind) = event["type"].as_str() else { return };
        let begins = kind == "response.output_item.added";
        let id = event["item_id"].as_str().or(event["item"]["id"].as_str()).map(str::to_owned);
        let place = event["output_index"].as_u64();
        if begins {
            let place = place.unwrap_or(self.next);
            self.next = place.saturating_add(1);
            self.begun.extend(id.clone().map(|id| (id, place)));
        }
        let Some(fields) = event.as_object_mut() else { return };
        if place.is_none()
            && !fields.contains_key("output_index")
            && let Some(place) = id.and_then(|id| self.begun.get(&id))
        {
            fields.insert("output_index".to_owned(), json!(place));
            // A server that does not number pieces does not number their parts either: they have one.
            fields.entry("content_index").or_insert(json!(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_found_by_their_ids_in_the_order_in_which_they_began() {
        let mut places = Places::default();
        let mut first = json!({ "type": "response.output_item.added", "item": { "id": "a", "type": "message" } });
        let mut second =
            json!({ "type": "response.output_item.added", "item": { "id": "b", "type": "function_call" } });
        let mut words = json!({ "type": "response.output_text.delta", "item_id": "a", "delta": "hi" });
        let mut done = json!({ "type": "response.output_item.done", "item": { "id": "b" } });
        for event in [&mut first, &mut second, &mut words, &mut done] {
            places.fill(event);
        }
        assert_eq!((&first["output_index"], &second["output_index"]), (&json!(0), &json!(1)));
        assert_eq!((&words["output_index"], &words["content_index"]), (&json!(0), &json!(0)));
        assert_eq!(done["output_index"], 1);
    }

    #[test]
    fn what_an_event_says_itself_is_left_alone_and_strangers_are_no_events() {
        let mut places = Places::default();
        let mut numbered = json!({ "type": "response.output_text.delta", "item_id": "x", "output_index": 4 });
        let mut odd = json!({ "type": "response.output_text.delta", "item_id": "x", "output_index": "4" });
        let mut stranger = json!({ "type": "response.output_text.delta", "item_id": "x" });
        for event in [&mut numbered, &mut odd, &mut stranger] {
            places.fill(event);
        }
        assert_eq!(numbered["output_index"], 4);
        assert_eq!(odd["output_index"], "4");
        assert!(stranger.get("output_index").is_none());
    }
}
