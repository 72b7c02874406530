# shellcheck shell=bash disable=SC2034,SC2153 # variables cross file borders
# What is made once and kept: a folder per thing, named by the hash of what it is made from. Needs common.sh.

CACHE=${FAIRLEAD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/fairlead}
CACHE=$(realpath -m "$CACHE")
mkdir -p "$CACHE"

# The process group of what is being made, and where, for who has to end it.
MAKER='' PART=''

# cached NAME RECIPE_HASH COMMAND...: sets CACHED to the folder; when it is missing, COMMAND is called with a new folder's
# path to fill it. Half-made folders are never seen, and of concurrent makers one works and the others wait.
cached() {
    local name=$1 hash=$2
    shift 2
    CACHED=$CACHE/$name-${hash:0:16}
    if [ ! -d "$CACHED" ]; then
        exec 8>"$CACHE/lock"
        flock --nonblock 8 || { say "waiting for another run that is making things in $CACHE" && flock 8; }
        if [ ! -d "$CACHED" ]; then
            # The lock is ours, so what lies about is from runs that were killed.
            [ -z "$(compgen -G "$CACHE/$name.part.*")" ] || as_root rm -rf --one-file-system "$CACHE/$name".part.*
            # Making things needs root, and in the background sudo cannot ask for a password.
            as_root true
            PART=$(mktemp -d "$CACHE/$name.part.XXXXXX")
            # In the background, as signals are handled only while bash waits, and a process group, to end all of it. It holds
            # the lock too: should it outlive this script, the next one waits for it.
            set -m
            ("$@" "$PART") </dev/null >&2 &
            MAKER=$!
            set +m
            wait $MAKER || die "making the $name failed"
            MAKER=
            [ "$(id -u)" = 0 ] || as_root chown -R "$(id -u):$(id -g)" "$PART"
            chmod 755 "$PART"
            mv -T "$PART" "$CACHED"
        fi
        exec 8>&-
    fi
    touch "$CACHED"
    prune "$name"
}

# stop_making: for traps.
stop_making() {
    [ -n "$MAKER" ] || return 0
    kill -TERM -- "-$MAKER" 2>/dev/null || true
    wait "$MAKER" 2>/dev/null || true
    # mmdebstrap takes a moment to undo its mounts.
    for _ in {1..50}; do
        grep -qF " $PART/" /proc/mounts || break
        sleep 0.1
    done
    as_root rm -rf --one-file-system "$PART" || true
}

# Keeps the two most recently used. A folder in use by a running node can go: its files stay open.
prune() {
    local old
    find "$CACHE" -maxdepth 1 -name "$1-*" -printf '%T@ %p\n' | sort -rn | tail -n +3 | cut -d ' ' -f 2- |
        while read -r old; do rm -rf "$old"; done
}

# hash_of PATH...: of the contents, names and modes of files and folders.
hash_of() {
    local path
    for path; do
        (cd "$(dirname "$path")" && find "$(basename "$path")" -type f -printf '%m %p\0' | sort -z |
            while IFS= read -r -d '' file; do
                printf '%s\n' "$file"
                sha256sum <"${file#* }"
            done)
    done | sha256sum | cut -c 1-64
}
