#!/bin/sh
# Runs the README's example in a folder of its own, twice: on no store and on the one it left.
# sh tests/readme_example.sh COMMAND...
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
expected='cask: a vessel of staves, headings and hoops
and gone again'
for run in 1 2; do
    output=$("$@")
    if [ "$output" != "$expected" ]; then
        printf 'run %s printed: %s\n' "$run" "$output" >&2
        exit 1
    fi
done
test -f words.cask/CASKADE
