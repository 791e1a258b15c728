# Shared by the scripts; sourced, not run. Works as root and as a user with sudo.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

BUILD_PACKAGES=(gcc libc6-dev meson ninja-build pkg-config libuv1-dev libssl-dev libc-ares-dev libgmime-3.0-dev
    libsqlite3-dev libwebsockets-dev libwebsockets-evlib-uv libjansson-dev libconfuse-dev
    libseccomp-dev libcmocka-dev libsodium-dev ca-certificates)
# what the demo and the integration tests need besides
LAB_PACKAGES=(python3 python3-cryptography python3-dnspython openssl)
TEST_PACKAGES=(clang clang-tidy clang-format libclang-rt-14-dev python3-pytest swaks universal-ctags
    pflogsumm curl codespell mandoc lsof strace systemd git iproute2 procps file)

say() { printf '\n== %s\n' "$*"; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Installs what is missing, and nothing when nothing is.
need_packages() {
    local missing=() p
    for p in "$@"; do
        dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
    done
    [ ${#missing[@]} = 0 ] && return
    say "installing ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${missing[@]}" >/dev/null
}

# configure DIR OPTIONS...: sets a build directory up once; later calls change nothing
configure() {
    local dir=$1
    shift
    if [ -f "$dir/build.ninja" ]; then return; fi
    meson setup "$dir" "$@" >"${TMPDIR:-/tmp}/postseal-meson.$$" 2>&1 ||
        { cat "${TMPDIR:-/tmp}/postseal-meson.$$"; rm -f "${TMPDIR:-/tmp}/postseal-meson.$$"; return 1; }
    rm -f "${TMPDIR:-/tmp}/postseal-meson.$$"
}

PYTHON=/usr/bin/python3
