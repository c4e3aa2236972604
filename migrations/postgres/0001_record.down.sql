DROP TABLE books, state_values, thread_messages, threads, idempotency, signals, waits, steps, tasks;
