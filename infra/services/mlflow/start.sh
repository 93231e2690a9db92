#!/bin/sh
# Becomes an MLflow server with a login (MLflow's basic-auth app). Everything comes from the environment: nothing secret
# stands in a command line.
set -eu

for name in MLFLOW_BACKEND_STORE_URI MLFLOW_ARTIFACTS_DESTINATION MLFLOW_AUTH_ADMIN_USERNAME MLFLOW_AUTH_ADMIN_PASSWORD \
    MLFLOW_FLASK_SERVER_SECRET_KEY; do
    value=""
    eval "value=\${$name:-}"
    if [ -z "$value" ]; then
        echo "start: $name is not set; see .env.example" >&2
        exit 2
    fi
done

umask 077
MLFLOW_AUTH_CONFIG_PATH=$(mktemp)
export MLFLOW_AUTH_CONFIG_PATH
# Accounts live in the database of the runs. A % has a meaning in this file, so it is doubled. Without a grant an account
# sees nothing of other people's experiments.
cat > "$MLFLOW_AUTH_CONFIG_PATH" << END
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = $(printf '%s' "$MLFLOW_BACKEND_STORE_URI" | sed 's/%/%%/g')
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
grant_default_workspace_access = false
workspace_cache_max_size = 10000
workspace_cache_ttl_seconds = 3600
# A password is hashed by design slowly, at every request: a minute's memory of it is three times the speed.
auth_cache_max_size = 10000
auth_cache_ttl_seconds = 60
END

export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false PYTHONSAFEPATH=1
# gunicorn closes an idle connection after 2 s by default, and a request sent at that moment is lost.
# One process: two would race to make the tables and the first account, and what it knows of passwords is its own.
exec mlflow server --app-name basic-auth --host "${MLFLOW_HOST:-127.0.0.1}" --port "${MLFLOW_PORT:-5000}" \
    --workers 1 --gunicorn-opts "--threads 8 --no-control-socket --graceful-timeout 2 --keep-alive 75"
