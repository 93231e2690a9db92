#!/usr/bin/env bash
# Writes .env beside this script from .env.example: a new random value for everything that is empty there. Mode 600.
# An existing .env is left alone: its secrets are those of the data.
#
#   ./new-env.sh [BIND_ADDRESS]
set -euo pipefail

folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
env_file=${AGR_ENV_FILE:-$folder/.env}
bind_address=${1:-127.0.0.1}

if [[ ! $bind_address =~ ^(127\.|10\.|192\.168\.|172\.(1[6-9]|2[0-9]|3[01])\.|100\.(6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7])\.) ]]; then
    echo "new-env: $bind_address is no loopback or private IPv4 address. Nothing here speaks TLS: use an overlay's address." >&2
    exit 2
fi
if [[ -e $env_file ]]; then
    echo "new-env: $env_file exists and stays: its secrets belong to the data. Move it away for new ones." >&2
    exit 1
fi

random() { # as many hexadecimal digits
    od -An -N "$(($1 / 2))" -tx1 /dev/urandom | tr -d ' \n'
}

umask 077
new=$(mktemp "$env_file.XXXXXX")
trap 'rm -f "$new"' EXIT
while IFS= read -r line; do
    case $line in
        BIND_ADDRESS=*) line="BIND_ADDRESS=$bind_address" ;;
        MLFLOW_ADMIN_USERNAME=) line="${line}admin" ;;
        *_ACCESS_KEY=) line="${line}AGR$(random 16)" ;;
        [A-Z]*=) line="$line$(random 48)" ;;
    esac
    printf '%s\n' "$line"
done < "$folder/.env.example" > "$new"
# A hard link fails if the name has been taken in between; a rename would replace what took it.
ln "$new" "$env_file"
echo "new-env: wrote $env_file"
