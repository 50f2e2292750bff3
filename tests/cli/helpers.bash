# What every .bats file here loads. CASKADE names the command; without it, that of the release build.
bats_require_minimum_version 1.5.0

here=$BATS_TEST_DIRNAME
# shellcheck disable=SC2034
fixtures=$here/fixtures
CASKADE=${CASKADE:-$here/../../build/release/cli/caskade}
# shellcheck disable=SC2034
shared_data=${CASKADE_SHARED_DATA:-$here/../../../shared/data}

setup() {
    cd "$BATS_TEST_TMPDIR" || return 1
    # Sorting and comparing is of bytes.
    export LC_ALL=C
}

# A test that starts a command in the background leaves its process id in $loader.
teardown() {
    exec 4>&-
    if [ -n "${loader:-}" ]; then
        kill -KILL "$loader" 2>/dev/null || true
    fi
}

caskade() {
    "$CASKADE" "$@"
}

# Runs the command; $status, $output (stdout) and $stderr are for looking at.
try() {
    run --separate-stderr "$CASKADE" "$@"
}

# One line on stderr, and the exit code: expect_error CODE PATTERN, the pattern as grep -E has it.
expect_error() {
    echo "status $status, stdout '$output', stderr '$stderr'"
    [ "$status" -eq "$1" ] || return 1
    [ "$(printf '%s\n' "$stderr" | wc -l)" -eq 1 ] || return 1
    printf '%s\n' "$stderr" | grep -Eq "^caskade: .*$2" || return 1
}

expect_ok() {
    echo "status $status, stdout '$output', stderr '$stderr'"
    [ "$status" -eq 0 ]
}

# What a store holds, in an order of its own.
contents() {
    caskade dump "$1" --format "${2:-tsv}" | sort
}

# Every name, size, time and byte below a directory.
fingerprint() {
    find "$1" -printf '%P %s %T@ %m\n' | sort
    find "$1" -type f -exec sha256sum {} + | sort
}

need() {
    command -v "$1" >/dev/null || skip "$1 is not installed"
}
