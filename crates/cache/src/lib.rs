//! What may be forgotten: cached values, token buckets and de-duplication windows.
