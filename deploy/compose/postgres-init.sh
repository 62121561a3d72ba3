#!/bin/sh
# Makes the two roles and the three databases when the volume is new: one of Everstep, two of Temporal.
set -eu

psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --set everstep_password="$EVERSTEP_DB_PASSWORD" --set temporal_password="$TEMPORAL_DB_PASSWORD" <<'SQL'
CREATE ROLE everstep LOGIN PASSWORD :'everstep_password';
CREATE ROLE temporal LOGIN PASSWORD :'temporal_password';
CREATE DATABASE everstep OWNER everstep;
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;
REVOKE CONNECT ON DATABASE everstep, temporal, temporal_visibility FROM PUBLIC;
SQL
