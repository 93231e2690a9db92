#!/usr/bin/env bash
# What a rented machine does, whoever rented it: be the head, join one and stay, run a sweep to its end, leave.
# Settings and secrets come from the environment, or from ~/.agr/node.env (mode 600), and stand in no command line.
#
#   node.sh head ADDRESS [options of agr cluster head]     ADDRESS: this machine's, as the others reach it
#   node.sh join HEAD:PORT [options of agr cluster join]   tries for JOIN_S (600) while the head does not answer yet
#   node.sh stay HEAD:PORT                                 until the head is gone, then leaves, or until this node has left
#   node.sh sweep FILE [options of agr submit]             submits FILE, or resumes the sweep of that name
#   node.sh launch RAY_CONFIG [options of agr cluster head]    for `ray up`: head, which starts the workers over SSH
#   node.sh end                                            ends this machine's Ray, if there is one, at once; the secrets stay
#   node.sh leave [options of agr cluster leave]           drains and leaves; secrets on the disk go too
#
# USD_PER_HOUR: what this machine costs, if it is to count towards budgets.
# IDLE: leave after this time without a trial here, such as 20m; ON_IDLE: what ends the machine then; ON_END: the same
# once the sweeps that ran while it was there are over. With none of them it stays.
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
record=${AGR_HOME:-$HOME/.agr}/cluster/node.json

price=()
if [[ -n ${USD_PER_HOUR:-} ]]; then
    price=(--usd-per-hour "$USD_PER_HOUR")
fi

release=()
if [[ -n ${IDLE:-} ]]; then
    release+=(--idle "$IDLE")
fi
if [[ -n ${ON_IDLE:-} ]]; then
    release+=(--on-idle "$ON_IDLE")
fi
if [[ -n ${ON_END:-} ]]; then
    release+=(--on-end "$ON_END")
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
    "$agr" cluster head --host "$address" --port "$port" "${price[@]}" "${release[@]}" "$@"
}

join() {
    local address=$1 until=$((SECONDS + ${JOIN_S:-600})) code
    shift
    need_token
    while true; do
        code=0
        "$agr" cluster join "$address" --port "$port" "${price[@]}" "${release[@]}" "$@" || code=$?
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
        if [[ ! -e $record ]]; then
            echo "node: this machine has left the cluster (IDLE, ON_END)"
            return
        fi
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

launch() {
    local config=$1 logs=/tmp/ray/session_latest/logs name address mark
    shift
    if [[ ! -e $config ]]; then
        echo "node: \`ray up\` brought no $config: it takes this machine for one that is set up. Where you called it, remove" \
            "/tmp/ray/cluster-*.state, and call it again." >&2
        exit 2
    fi
    read -r name address < <(python3 -c '
import json, sys
config = json.load(open(sys.argv[1]))
print(config["cluster_name"], config["provider"]["head_ip"])' "$config")
    head "$address" "$@"
    # What a launcher before this one knew of the workers: with it, today's files would not be taken to them.
    rm -f "/tmp/ray/cluster-$name.state"
    # The mark makes Ray's launcher a part of this node, to end with it; else it would go on logging in to the others.
    mark=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["mark"])' "$record")
    AGR_CLUSTER_NODE=$mark nohup "$(dirname "$agr")/python" -m ray.autoscaler._private.monitor \
        --gcs-address "$address:$port" --autoscaling-config "$config" --logs-dir "$logs" \
        > "$logs/agr-launcher.log" 2>&1 < /dev/null &
    disown
}

end() {
    if [[ -e $record ]]; then
        "$agr" cluster leave --force || true # the record may be of a Ray that a restart of the machine ended
    fi
}

leave() {
    # That it is no node of a cluster is no reason to stay; that others need it as their head is one.
    if ! "$agr" cluster leave "$@" && env -u RAY_ADDRESS "$agr" cluster status > /dev/null 2>&1; then
        echo "node: this machine is still a node, and its secrets are still here" >&2
        exit 1
    fi
    rm -f "$secrets" "$HOME/.ray/auth_token" "$HOME"/ray_bootstrap_{key.pem,config.yaml}
}

case ${1:-} in
    head | join | stay | sweep | launch) (($# >= 2)) || { echo "node: $1 needs an argument" >&2 && exit 2; } ;;
    end | leave) ;;
    *) sed -n '2,16s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
esac
command=$1
shift
"$command" "$@"
