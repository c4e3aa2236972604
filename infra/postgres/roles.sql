-- The application's role and what it may do: everything within its schema, which it migrates itself, and nothing else.
--
-- Runs when the database is made, and again whenever its password was changed: scripts/secrets --rotate postgres_password says how.

\set ON_ERROR_STOP on
-- The server is given a verifier, from which nobody can tell the password.
\set verifier `cat /run/secrets/postgres_verifier`

SELECT 'CREATE ROLE agentrunner' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'agentrunner') \gexec

-- PASSWORD comes last, so that no error message quotes it.
ALTER ROLE agentrunner WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 95
    PASSWORD :'verifier';

-- Nobody else, not even with a role that is made later, and no other database.
REVOKE ALL ON DATABASE agentrunner, postgres, template1 FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE agentrunner TO agentrunner;

-- It owns its schema, not the database: it cannot drop, rename or configure that.
ALTER SCHEMA public OWNER TO agentrunner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
