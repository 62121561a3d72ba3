#!/bin/sh
# Brings Temporal's tables to the version of this image; does nothing when they are there.
set -eu

schema=/etc/temporal/schema/postgresql/v12
for name in temporal:temporal temporal_visibility:visibility; do
    database=${name%%:*}
    tool="temporal-sql-tool --plugin postgres12 --ep $POSTGRES_SEEDS -p $DB_PORT -u $POSTGRES_USER --db $database"
    # the password comes in SQL_PASSWORD
    $tool setup-schema -v 0.0
    $tool update-schema -d "$schema/${name##*:}/versioned"
done
