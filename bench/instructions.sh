#!/bin/sh
# Instructions of a put and of a get with the index in RAM, counted by callgrind, of one build of the
# library or of several, to compare them where times are too noisy for it.
#
#   sh bench/instructions.sh [-n KEYS] [-d DIR] INCLUDE LIBDIR [INCLUDE LIBDIR]...
#
#   -n  keys, of 16 bytes with values of 100, each put, got and put again; default 200000
#   -d  where the stores go, in a folder that is removed again; default ${TMPDIR:-/tmp}
# INCLUDE is the folder of caskade.h, LIBDIR that of libcaskade.so. Wants cc and valgrind. What
# workers do meanwhile is not counted.
set -eu

keys=200000
dir=${TMPDIR:-/tmp}
usage() {
    sed -n '5,10s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
while getopts n:d: option; do
    case $option in
    n) keys=$OPTARG ;;
    d) dir=$OPTARG ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))
if [ $# -eq 0 ] || [ $(($# % 2)) -ne 0 ]; then
    usage
fi
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
work=$(mktemp -d "$dir/caskade-instructions.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The instructions within a function of the library, for each of so many calls.
count() {
    rm -rf "$work/store"
    valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect="$1" \
        "$work/program" "$work/store" "$keys" 2>"$work/said" || { cat "$work/said" >&2; exit 1; }
    sed -n 's/^==[0-9]*== Collected : \([0-9]*\).*/\1/p' "$work/said" |
        awk -v calls="$2" '{ printf "%d", $1 / calls }'
}

while [ $# -gt 0 ]; do
    lib=$(CDPATH='' cd -- "$2" && pwd)
    cc -O2 -I"$1" "$here/instructions.c" -o "$work/program" -L"$lib" -lcaskade -Wl,-rpath,"$lib"
    put=$(count cask_put $((keys * 2)))
    get=$(count cask_get "$keys")
    printf '%s: %s a put, %s a get\n' "$lib" "$put" "$get"
    shift 2
done
