#!/bin/sh
# Makes the database at the first start, then becomes the server.
set -eu
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
    : "${POSTGRES_PASSWORD:?say which password the database shall have}"
    password=$(mktemp)
    printf '%s\n' "$POSTGRES_PASSWORD" >"$password"
    initdb --auth-host=scram-sha-256 --auth-local=trust --username=postgres --pwfile="$password" >/dev/null
    rm "$password"
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
fi
exec "$@"
