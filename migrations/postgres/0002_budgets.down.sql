DROP TABLE artifacts, paid_tools, reservations, accounts;
ALTER TABLE tasks
    DROP COLUMN terms,
    DROP COLUMN cached_input_tokens,
    DROP COLUMN cache_write_tokens,
    DROP COLUMN reasoning_tokens,
    DROP COLUMN cost;
