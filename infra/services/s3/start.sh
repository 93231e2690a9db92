#!/bin/sh
# Writes SeaweedFS's identities from the environment, then becomes the command given as arguments.
#
# Without an identities file SeaweedFS lets everybody read and refuses multipart uploads. The keys are kept out of
# command lines, which every process of the machine can read.
set -eu

for name in S3_IDENTITIES S3_ADMIN_ACCESS_KEY S3_ADMIN_SECRET_KEY S3_AGR_ACCESS_KEY S3_AGR_SECRET_KEY \
    S3_MLFLOW_ACCESS_KEY S3_MLFLOW_SECRET_KEY; do
    value=""
    eval "value=\${$name:-}"
    case $value in
        "") echo "start: $name is not set; see .env.example" >&2 && exit 2 ;;
        *[!A-Za-z0-9/._-]*) echo "start: $name holds more than letters, digits and . _ / -" >&2 && exit 2 ;;
    esac
done

identity() { # name, access key, secret key, actions
    printf '{"name": "%s", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "actions": [%s]}' "$@"
}

scoped() { # the rights of somebody who uses one bucket
    printf '"Read:%s", "Write:%s", "List:%s", "Tagging:%s"' "$1" "$1" "$1" "$1"
}

umask 077
mkdir -p "$(dirname "$S3_IDENTITIES")"
{
    printf '{"identities": [\n'
    identity admin "$S3_ADMIN_ACCESS_KEY" "$S3_ADMIN_SECRET_KEY" '"Admin", "Read", "Write", "List", "Tagging"'
    printf ',\n'
    identity agr "$S3_AGR_ACCESS_KEY" "$S3_AGR_SECRET_KEY" "$(scoped agr)"
    printf ',\n'
    identity mlflow "$S3_MLFLOW_ACCESS_KEY" "$S3_MLFLOW_SECRET_KEY" "$(scoped mlflow)"
    printf '\n]}\n'
} > "$S3_IDENTITIES"

# The image's entry point starts as root and drops to this account, which must be able to read the file.
if [ -n "${S3_OWNER:=}" ]; then
    chown -R "$S3_OWNER" "$(dirname "$S3_IDENTITIES")"
fi
unset S3_ADMIN_ACCESS_KEY S3_ADMIN_SECRET_KEY S3_AGR_ACCESS_KEY S3_AGR_SECRET_KEY S3_MLFLOW_ACCESS_KEY \
    S3_MLFLOW_SECRET_KEY
exec "$@"
