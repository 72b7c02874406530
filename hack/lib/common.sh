# shellcheck shell=bash
# Shell functions shared by the scripts under hack/. Source it; it only defines functions.

# Progress goes to stderr: stdout belongs to what the scripts run.
say() { printf '[%4ds] %s\n' "$SECONDS" "$*" >&2; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit "${DIE_CODE:-1}"
}

repo_root() { (cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd); }

# Runs a command as root: directly, with sudo, or not at all.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "need root for: $* (not root, and no sudo here)"
    fi
}

package_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# need_packages PKG...: installs the Debian packages that are missing, saying which.
need_packages() {
    local package log missing=()
    command -v dpkg-query >/dev/null || die "not a Debian-like system: install by hand what Debian calls: $*"
    for package; do
        package_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        die "packages are missing and cannot be installed (not root, no sudo): apt-get install ${missing[*]}"
    fi
    say "installing Debian packages: ${missing[*]}"
    log=$(mktemp)
    # A fresh machine has no package lists, an old one stale ones: then update and try again.
    if ! apt_install "${missing[@]}" >"$log" 2>&1 &&
        ! { as_root apt-get update && apt_install "${missing[@]}"; } >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        die "could not install: ${missing[*]}"
    fi
    rm -f "$log"
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
}
