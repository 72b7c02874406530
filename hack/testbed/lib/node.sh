# shellcheck shell=bash disable=SC2034,SC2153 # variables cross file borders
# A running node: a folder with its console, its pid, its ssh port and key. Needs common.sh, cache.sh.

NODES=$(realpath -m "${FAIRLEAD_NODES:-$CACHE/nodes}")
mkdir -p "$NODES"
KEPT=$NODES/${FAIRLEAD_NODE:-kept}

# node_ssh FOLDER: sets SSH, the command that enters the node of that folder.
node_ssh() {
    SSH=(ssh -F none -p "$(cat "$1/port")" -i "$1/id_ed25519" -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes
        -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o GlobalKnownHostsFile=/dev/null -o LogLevel=ERROR
        root@127.0.0.1)
}

# node_runs FOLDER: its QEMU is alive (and the pid is not somebody else's by now).
node_runs() {
    local pid
    pid=$(cat "$1/pid" 2>/dev/null) && [ -n "$pid" ] && grep -qF "$1/console" "/proc/$pid/cmdline" 2>/dev/null
}

# node_console FOLDER: the end of its console (a panic with its head takes some 60 lines), without the terminal's control codes.
node_console() {
    printf -- '--- the last lines of the console ---\n'
    tail -n 120 "$1/console" 2>/dev/null | sed -E 's/\x1b(\[[0-9;?]*[a-zA-Z]|[c=>])//g; s/\r//g'
    printf -- '--- end of the console ---\n'
}

# remote_command ARGUMENT...: as one string that the node's bash takes apart into the same arguments.
remote_command() { printf '%q ' "$@"; }

# listening_port PID: the loopback port on which that process listens, from the kernel: QEMU was told to take a free one.
listening_port() {
    local link inodes
    inodes=$(for link in /proc/"$1"/fd/*; do readlink "$link" || true; done | sed -n 's/^socket:\[\(.*\)\]$/\1/p')
    awk -v inodes="$inodes" '
        BEGIN { count = split(inodes, list, "\n"); for (i = 1; i <= count; i++) ours[list[i]] = 1 }
        $4 == "0A" && ($10 in ours) && $2 ~ /^0100007F:/ { print substr($2, 10) }' /proc/net/tcp |
        { read -r port && echo $((16#$port)); }
}

# sweep_nodes: removes the folders of nodes whose wrapper was killed. Each run holds a lock in its own.
sweep_nodes() {
    local lock folder
    find "$NODES" -mindepth 2 -maxdepth 2 -name lock -mmin +1 2>/dev/null | while read -r lock; do
        folder=${lock%/lock}
        if ! node_runs "$folder" && flock --nonblock "$lock" true; then
            rm -rf "$folder"
        fi
    done
}
