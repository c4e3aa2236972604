DROP TABLE gate_log;
DROP TABLE gate_starts;
