#!/bin/bash
# Run once by PostgreSQL's image, when its volume is new: the roles that are not the administrator.
set -euo pipefail

# passwords go in as variables of psql, which quotes them, and over its standard input, which no list of processes shows
psql --set=ON_ERROR_STOP=1 --quiet --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" <<'SQL'
\getenv writer_password WRITER_PASSWORD
\getenv dashboard_password DASHBOARD_PASSWORD

-- owns the pipeline's schema, which its first migration creates
create role clickstream login password :'writer_password';
grant create on database analytics to clickstream;

-- reads and nothing else (docs/reader-role.md); the migration grants it the tables
create role dashboard login password :'dashboard_password' connection limit 20;
alter role dashboard set default_transaction_read_only = on;
alter role dashboard set statement_timeout = '60s';
alter role dashboard set idle_in_transaction_session_timeout = '60s';
alter role dashboard set jit = off;
alter role dashboard set work_mem = '64MB';
alter role dashboard set temp_file_limit = '10GB';
alter role dashboard set plan_cache_mode = force_custom_plan;
alter role dashboard set search_path = clickstream;
SQL
