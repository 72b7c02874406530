# shellcheck shell=bash disable=SC2034,SC2153 # variables cross file borders
# A QEMU that is new enough, and which accelerator it can use here. Needs common.sh, debian.sh, cache.sh.

# Before this one, igb's virtual functions are dead: reads and writes of their registers do not arrive.
QEMU_MINIMUM=10.0.13

# find_qemu: sets QEMU, the command with its first arguments.
find_qemu() {
    local host version
    host=${FAIRLEAD_QEMU:-$(command -v qemu-system-x86_64 || true)}
    if [ -n "$host" ]; then
        version=$("$host" --version | sed -nE '1s/.*version ([0-9.]+).*/\1/p')
        if [ "$(printf '%s\n' "$QEMU_MINIMUM" "$version" | sort -V | head -n 1)" = "$QEMU_MINIMUM" ]; then
            QEMU=("$host")
            return
        fi
        [ -z "${FAIRLEAD_QEMU:-}" ] || die "$host is version $version, the node needs $QEMU_MINIMUM or newer"
    fi
    cached qemu "$(hash_of "${BASH_SOURCE[0]}")-$DEBIAN_SUITE" fetch_qemu "${version:-none}"
    QEMU=("$CACHED/lib/ld-linux-x86-64.so.2" --library-path "$CACHED/lib" "$CACHED/qemu-system-x86_64" -L "$CACHED/share")
    export QEMU_MODULE_DIR=$CACHED/lib
}

# fetch_qemu HOST_VERSION FOLDER: unpacks QEMU and the libraries it is linked with from Debian, past the host's packages.
fetch_qemu() {
    local out=$2 root=$2/root lib=$2/root/usr/lib/x86_64-linux-gnu mirrors proxy
    say "QEMU: this machine has ${1/#none/no QEMU}, the node needs $QEMU_MINIMUM: taking Debian $DEBIAN_SUITE's into the cache"
    need_packages mmdebstrap debian-archive-keyring
    mirrors=$(debian_mirrors) || exit
    mapfile -t proxy < <(apt_proxy_options)
    as_root mmdebstrap --quiet --mode=root --variant=extract --include=qemu-system-x86 --format=directory \
        --aptopt='APT::Install-Recommends "false"' "${proxy[@]}" "$DEBIAN_SUITE" "$root" - <<<"$mirrors"
    mkdir "$out/lib" "$out/share"
    cp "$root/usr/bin/qemu-system-x86_64" "$out/"
    cp "$lib/ld-linux-x86-64.so.2" "$out/lib/"
    "$lib/ld-linux-x86-64.so.2" --library-path "$lib" --list "$root/usr/bin/qemu-system-x86_64" |
        awk '$3 ~ "^/" { print $3 }' | xargs -I '{}' cp --dereference '{}' "$out/lib/"
    cp --dereference "$root"/usr/share/seabios/bios-256k.bin "$root"/usr/share/qemu/{kvmvapic,linuxboot_dma,pvh}.bin "$out/share/"
    as_root rm -rf "$root"
    say "QEMU: ready, $(du -sm "$out" | cut -f 1) MB"
}

# choose_accelerator KERNEL: sets ACCELERATOR (kvm or tcg) and ACCELERATOR_WHY.
choose_accelerator() {
    local verdict boot
    boot=$(cat /proc/sys/kernel/random/boot_id)
    verdict=$CACHE/accelerator
    if [ -n "${FAIRLEAD_ACCELERATOR:-}" ]; then
        ACCELERATOR=$FAIRLEAD_ACCELERATOR ACCELERATOR_WHY="FAIRLEAD_ACCELERATOR says so"
    elif [ ! -e /dev/kvm ]; then
        ACCELERATOR=tcg ACCELERATOR_WHY="there is no /dev/kvm"
    elif [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
        ACCELERATOR=tcg ACCELERATOR_WHY="no permission to use /dev/kvm"
    elif [ -r "$verdict" ] && read -r known ACCELERATOR ACCELERATOR_WHY <"$verdict" && [ "$known" = "$boot" ]; then
        :
    else
        say "trying whether /dev/kvm can boot a guest"
        if kvm_boots "$1"; then
            ACCELERATOR=kvm ACCELERATOR_WHY="a guest boots under it"
        else
            ACCELERATOR=tcg ACCELERATOR_WHY="/dev/kvm exists but does not boot a guest"
        fi
        echo "$boot $ACCELERATOR $ACCELERATOR_WHY" >"$verdict"
    fi
}

# /dev/kvm may open, take ioctls and still never run guest code, as inside some virtual machines: look for the first line of
# a kernel.
kvm_boots() {
    local console probe booted=1
    console=$(mktemp "$CACHE/kvm-probe.XXXXXX")
    # In a shell of its own, which keeps quiet when QEMU aborts.
    (
        setpriv --pdeathsig KILL "${QEMU[@]}" -nodefaults -no-user-config -display none -machine q35 -accel kvm -cpu host \
            -m 256 -kernel "$1" -append 'earlyprintk=ttyS0 console=ttyS0 panic=-1' -no-reboot -serial "file:$console" || true
    ) </dev/null >/dev/null 2>&1 &
    probe=$!
    for _ in {1..80}; do
        if grep -q 'Linux version' "$console"; then
            booted=0
            break
        fi
        kill -0 $probe 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL $probe 2>/dev/null || true
    wait $probe 2>/dev/null || true
    rm -f "$console"
    return $booted
}
