# shellcheck shell=bash disable=SC2034,SC2153 # variables cross file borders
# Where Debian's packages come from: the machine's own apt sources, or a variable.
# Needs common.sh.

DEBIAN_SUITE=trixie

# apt_entries DIR: one line "URI SUITE" for each enabled binary entry with component main
# in DIR (as /etc/apt), of both formats.
apt_entries() {
    local file
    for file in "$1"/sources.list "$1"/sources.list.d/*.list; do
        [ -r "$file" ] || continue
        sed -nE 's/#.*//; s/^[[:space:]]*deb[[:space:]]+(\[[^]]*\][[:space:]]*)?//p' "$file" |
            awk '{ for (i = 3; i <= NF; i++) if ($i == "main") print $1, $2 }'
    done
    for file in "$1"/sources.list.d/*.sources; do
        [ -r "$file" ] || continue
        # An own line of whitespace also ends a stanza; comments may stand anywhere.
        sed -E '/^#/d; s/^[[:space:]]+$//' "$file" | awk -v RS= -F '\n' '
            {
                split("", field); name = ""
                for (i = 1; i <= NF; i++) {
                    if ($i ~ /^[[:space:]]/) { field[name] = field[name] " " $i; continue }
                    name = tolower(substr($i, 1, index($i, ":") - 1))
                    field[name] = substr($i, index($i, ":") + 1)
                }
                if (tolower(field["enabled"]) ~ /no|false|off|0/) next
                if ((" " field["types"] " ") !~ /[ \t]deb[ \t]/) next
                if ((" " field["components"] " ") !~ /[ \t]main[ \t]/) next
                uris = split(field["uris"], uri, " "); suites = split(field["suites"], suite, " ")
                for (u = 1; u <= uris; u++) for (s = 1; s <= suites; s++) print uri[u], suite[s]
            }'
    done
}

# first_uri SUITE...: the URI of the first entry on standard input that serves one of the suites.
first_uri() {
    awk -v wanted=" $* " '$1 ~ /^(https?|file|ftp|mirror\+[a-z]+):/ && index(wanted, " " $2 " ") { print $1; exit }'
}

# debian_mirrors: sources.list lines for DEBIAN_SUITE, one per line.
debian_mirrors() {
    local entries codename="" main="" security="" suite=$DEBIAN_SUITE keyring
    if [ -n "${FAIRLEAD_DEBIAN_MIRROR:-}" ]; then
        main=$FAIRLEAD_DEBIAN_MIRROR
        security=${FAIRLEAD_DEBIAN_SECURITY_MIRROR:-}
    elif grep -qs '^ID=debian$' /etc/os-release; then
        codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
        entries=$(apt_entries "${FAIRLEAD_APT_DIR:-/etc/apt}")
        main=$(first_uri "${codename:-$suite}" stable oldstable testing unstable sid "$suite" <<<"$entries")
        security=$(first_uri "$codename-security" "$codename/updates" stable-security "$suite-security" <<<"$entries")
    fi
    [ -n "$main" ] || die "no Debian mirror found in this machine's apt sources:" \
        "set FAIRLEAD_DEBIAN_MIRROR to the URI of one (a folder that holds dists/$suite), and" \
        "FAIRLEAD_DEBIAN_SECURITY_MIRROR to one that holds dists/$suite-security if there is one"
    keyring=$(debian_keyring) || exit
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$main" "$suite" "$keyring" "$main" "$suite-updates"
    [ -z "$security" ] || printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$security" "$suite-security"
}

debian_keyring() {
    local keyring
    keyring=$(compgen -G '/usr/share/keyrings/debian-archive-keyring.[gp]*' | head -n 1)
    [ -n "$keyring" ] || die "no Debian keyring on this machine: install debian-archive-keyring"
    # Keyrings from before the suite existed cannot verify it; apt's own error is obscure.
    compgen -G "/usr/share/keyrings/debian-archive-$DEBIAN_SUITE-*" >/dev/null ||
        die "debian-archive-keyring on this machine is too old for $DEBIAN_SUITE: upgrade that package"
    printf '%s\n' "$keyring"
}

# apt_proxy_options: the machine's apt proxy settings as mmdebstrap options, one per line.
apt_proxy_options() {
    apt-config dump 2>/dev/null | sed -nE 's/^(Acquire::(http|https|ftp)::Proxy.*)$/--aptopt=\1/p'
}
