# shellcheck shell=bash disable=SC2034,SC2153 # variables cross file borders
# The node image from the cache, made when it is missing. Needs common.sh, debian.sh, cache.sh.

# ensure_image: sets IMAGE, the folder with disk.raw, vmlinuz, initrd.img and id_ed25519.
ensure_image() {
    local here
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    cached image "$(hash_of "$here/image")" make_image "$here/image/build"
    IMAGE=$CACHED
}

make_image() {
    local mirrors
    need_packages mmdebstrap debian-archive-keyring e2fsprogs cpio xz-utils openssh-client
    mirrors=$(debian_mirrors) || exit
    as_root "$1" "$2" <<<"$mirrors"
    say "node image: ready, $(du -sm "$2" | cut -f 1) MB"
}
