#!/bin/sh
# secrets.sh FOLDER: makes the secrets of deploy/compose.yaml, each in a file that one user may read: 10001 (tailorbird) or 999 (PostgreSQL).
# Run as root, or within `podman unshare`. What is there already stays.
set -eu
folder=${1:?which folder}
umask 077
mkdir -p "$folder"
cd "$folder"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

if [ ! -e roles.sql ]; then
    admin=$(random) owner=$(random) gateway=$(random) worker=$(random)
    printf '%s' "$admin" > postgres_password
    # The owner migrates; gateway and worker log in as members of the roles that the product gives their rights.
    cat > roles.sql <<SQL
CREATE ROLE tailorbird_owner LOGIN PASSWORD '$owner';
CREATE ROLE tailorbird_gateway NOLOGIN;
CREATE ROLE tailorbird_worker NOLOGIN;
CREATE ROLE gateway1 LOGIN PASSWORD '$gateway' IN ROLE tailorbird_gateway;
CREATE ROLE worker1 LOGIN PASSWORD '$worker' IN ROLE tailorbird_worker;
ALTER DATABASE tailorbird OWNER TO tailorbird_owner;
SQL
    printf '*:*:tailorbird:tailorbird_owner:%s\n' "$owner" > owner_pgpass
    printf '*:*:tailorbird:gateway1:%s\n' "$gateway" > gateway_pgpass
    printf '*:*:tailorbird:worker1:%s\n' "$worker" > worker_pgpass
fi

if [ ! -e s3_identities.json ]; then
    key=$(random) secret=$(random)
    printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$key" "$secret" > s3_credentials
    cat > s3_identities.json <<JSON
{"identities": [{"name": "tailorbird",
                 "credentials": [{"accessKey": "$key", "secretKey": "$secret"}],
                 "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
JSON
fi

# S3's gRPC takes commands from whoever has this certificate's key, and from nobody else: without it anybody on its network could make
# identities.
if [ ! -e s3_security.toml ]; then
    command -v openssl > /dev/null || { echo "secrets.sh needs openssl" >&2; exit 1; }
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj /CN=tailorbird-s3 \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout s3_grpc.key -out s3_grpc.crt 2> /dev/null
    cat > s3_security.toml <<TOML
[grpc]
ca = "/run/secrets/s3_grpc.crt"
[grpc.s3]
cert = "/run/secrets/s3_grpc.crt"
key = "/run/secrets/s3_grpc.key"
TOML
fi

chmod 0400 ./*
if [ "$(id -u)" = 0 ]; then
    chown 999:999 postgres_password roles.sql
    chown 10001:10001 owner_pgpass gateway_pgpass worker_pgpass s3_credentials s3_identities.json s3_security.toml s3_grpc.crt s3_grpc.key
fi
