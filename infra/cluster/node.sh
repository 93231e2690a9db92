#!/usr/bin/env bash
# What a rented machine does, whoever rented it: be the head, join one and stay, run a sweep to its end, leave.
# Settings and secrets come from the environment, or from ~/.agr/node.env (mode 600), and stand in no command line.
#
#   node.sh head ADDRESS [options of agr cluster head]     ADDRESS: this machine's, as the others reach it
#   node.sh join HEAD:PORT [options of agr cluster join]   tries for JOIN_S (600) while the head does not answer yet
#   node.sh stay HEAD:PORT                                 until the head is gone, then leaves
#   node.sh sweep FILE [options of agr submit]             submits FILE, or resumes the sweep of that name
#   node.sh launcher RAY_CONFIG                            on a head of `ray up`: starts the workers over SSH, in the background
#   node.sh leave                                          drains and leaves; secrets on the disk go too
#
# USD_PER_HOUR: what this machine costs, if it is to count towards budgets.
# AGR_PORT: first port of the cluster, default 7379, because SkyPilot runs a Ray of its own on 6380.
set -euo pipefail
umask 077

agr=${AGR:-${AGR_VENV:-$HOME/.agr-venv}/bin/agr}
port=${AGR_PORT:-7379}
secrets=$HOME/.agr/node.env
export RAY_AUTH_MODE=token # a driver that is given an address shows its token only when told to
if [[ -f $secrets ]]; then
    set -a
    # shellcheck source=/dev/null
    source "$secrets"
    set +a
fi

price=()
if [[ -n ${USD_PER_HOUR:-} ]]; then
    price=(--usd-per-hour "$USD_PER_HOUR")
fi

need_token() {
    if [[ -z ${RAY_AUTH_TOKEN:-} && -z ${RAY_AUTH_TOKEN_PATH:-} && ! -s $HOME/.ray/auth_token ]]; then
        echo "node: no cluster token: set RAY_AUTH_TOKEN (openssl rand -hex 32 makes one; all nodes need the same)." >&2
        exit 2
    fi
}

head() {
    local address=$1
    shift
    need_token
    "$agr" cluster head --host "$address" --port "$port" "${price[@]}" "$@"
}

join() {
    local address=$1 until=$((SECONDS + ${JOIN_S:-600})) code
    shift
    need_token
    while true; do
        code=0
        "$agr" cluster join "$address" --port "$port" "${price[@]}" "$@" || code=$?
        # 2: refused (token, versions, no way back to this machine), which waiting does not mend.
        if ((code == 0 || code == 2 || SECONDS > until)); then
            return "$code"
        fi
        sleep 5
    done
}

stay() {
    local address=$1 missed=0
    trap '"$agr" cluster leave --timeout 60' TERM INT
    while ((missed < 6)); do
        if "$agr" cluster status --address "$address" > /dev/null 2>&1; then missed=0; else missed=$((missed + 1)); fi
        sleep 10 &
        wait $!
    done
    echo "node: the head at $address is gone; leaving"
    "$agr" cluster leave --force
}

newest() { # ID and status of the newest sweep of a name
    "$agr" list --json | python3 -c '
import json, sys
found = [sweep for sweep in json.load(sys.stdin) if sweep["name"] == sys.argv[1]]
if found:
    print(found[0]["sweep_id"], found[0]["status"])' "$1"
}

sweep() {
    local file=$1 name id status
    shift
    name=$("$agr" validate "$file" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["name"])')
    while read -r id status < <(newest "$name") && [[ $status == running ]]; do
        echo "node: sweep $id has a driver, or lost it less than 30 s ago; looking again in 15 s"
        sleep 15
    done
    case ${status:-none} in
        none) "$agr" submit "$file" "$@" ;;
        completed | stopped) echo "node: sweep $id is $status; nothing to do (a new name makes a new sweep)" ;;
        *) "$agr" resume "$id" ;;
    esac
}

launcher() {
    local logs=/tmp/ray/session_latest/logs
    need_token
    nohup "$(dirname "$agr")/python" -m ray.autoscaler._private.monitor \
        --gcs-address "$(hostname -I | cut -d ' ' -f 1):$port" --autoscaling-config "$1" --logs-dir "$logs" \
        > "$logs/agr-launcher.log" 2>&1 < /dev/null &
    disown
}

leave() {
    "$agr" cluster leave || true
    rm -f "$secrets" "$HOME/.ray/auth_token"
}

case ${1:-} in
    head | join | stay | sweep | launcher) (($# >= 2)) || { echo "node: $1 needs an argument" >&2 && exit 2; } ;;
    leave) ;;
    *) sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
esac
command=$1
shift
"$command" "$@"
