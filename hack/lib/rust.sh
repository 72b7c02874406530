# shellcheck shell=bash
# The Rust toolchain that the scripts use. Source it after common.sh.

# need_rust: finds cargo, also where rustup puts it without having told the shell, and a C compiler (a crate builds some C).
need_rust() {
    if ! command -v cargo >/dev/null; then
        [ -x "$HOME/.cargo/bin/cargo" ] || die "no cargo: install Rust's stable toolchain with rustup (https://rustup.rs)"
        PATH=$HOME/.cargo/bin:$PATH
    fi
    need_packages gcc libc6-dev
}

# need_component NAME SUBCOMMAND: a part of the toolchain (clippy, rustfmt) that a minimal installation lacks.
need_component() {
    cargo "$2" --version >/dev/null 2>&1 && return
    say "installing the Rust component $1"
    rustup component add "$1" >&2
}

# target_folder: where cargo puts what it builds for this machine (.cargo/config.toml names the target).
target_folder() {
    local host
    host=$(rustc -vV | sed -n 's/^host: //p')
    printf '%s/%s\n' "${CARGO_TARGET_DIR:-$(repo_root)/target}" "$host"
}
