# shellcheck shell=bash
# shellcheck disable=SC2034  # what is set here is used by those who source it
# What the scripts share: headings, and the installation of what is missing.
# Sourced by scripts/test, scripts/demo and scripts/torture, after "set -euo pipefail".

# The repository's root; every script works from there.
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

heading() {
    printf '\n== %s\n' "$*"
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# A line per need: Debian package, then how to see that what we need of it is there.
#   command NAME      a program on the PATH
#   header NAME       a C header
#   fuzzer            clang can link a libFuzzer program
#   pkgconfig NAME    a library that pkg-config knows
build_needs='gcc command gcc
libc6-dev header stdlib.h
cmake command cmake
ninja-build command ninja
libxxhash-dev header xxhash.h
liblmdb-dev header lmdb.h
libzstd-dev header zstd.h'
test_needs='g++ command g++
libcmocka-dev header cmocka.h
bats command bats
lmdb-utils command mdb_dump
clang command clang
clang-tidy command run-clang-tidy
clang-format command clang-format
libclang-rt-dev fuzzer
python3 command python3
pkg-config command pkg-config
shellcheck command shellcheck
mandoc command mandoc
zstd command zstd
libtkrzw-dev pkgconfig tkrzw
libleveldb-dev header leveldb/c.h
librocksdb-dev header rocksdb/c.h
util-linux command setarch
procps command ps'

# Whether a need is met: met KIND NAME. cmocka.h wants others before it.
met() {
    case $1 in
    command) command -v "$2" >/dev/null ;;
    pkgconfig) pkg-config --exists "$2" 2>/dev/null ;;
    header)
        printf '#include <stdarg.h>\n#include <stddef.h>\n#include <stdint.h>
#include <setjmp.h>\n#include <%s>\n' "$2" | gcc -E -x c - >/dev/null 2>&1
        ;;
    fuzzer)
        local object
        object=$(mktemp)
        echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n < 0; }' |
            clang -fsanitize=fuzzer,address -x c - -o "$object" >/dev/null 2>&1
        local result=$?
        rm -f "$object"
        return $result
        ;;
    *) die "no such kind of need: $1" ;;
    esac
}

# Sets missing to the packages whose need is not met, of the needs given as text.
find_missing() {
    local package kind name
    missing=()
    while read -r package kind name; do
        met "$kind" "${name:-}" || missing+=("$package")
    done <<<"$1"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# Runs apt-get without questions; its talk is shown only where it fails.
apt_get() {
    local log
    log=$(mktemp)
    if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# Installs the packages that the needs (text as above) lack; without apt, says what to install.
install_missing() {
    local needs=$1
    find_missing "$needs"
    if [ ${#missing[@]} -eq 0 ]; then
        return 0
    fi
    if ! command -v apt-get >/dev/null; then
        {
            echo "${0##*/}: this machine has no apt. Please install what these Debian packages hold,"
            echo "then run this again:"
            printf '    %s\n' "${missing[@]}"
        } >&2
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        die "not root and no sudo. As root: apt-get install ${missing[*]}"
    fi
    echo "installing: ${missing[*]}"
    apt_get install --no-install-recommends "${missing[@]}" 2>/dev/null || {
        # The package lists may be missing or out of date; if not, the second try says what is.
        echo "updating the package lists"
        apt_get update || die "apt-get update failed"
        apt_get install --no-install-recommends "${missing[@]}" ||
            die "could not install: ${missing[*]}"
    }
    find_missing "$needs"
    if [ ${#missing[@]} -gt 0 ]; then
        die "installed, but still not usable: ${missing[*]}"
    fi
}
