#!/usr/bin/env bats
# Inspection changes nothing on disk: not a byte, a name or a time.
load helpers

inspect_all() {
    for line in "get s plain" "get s nothing" "exists s plain" "exists s nothing" "scan s" \
        "scan s --values" "dump s" "dump s --format lmdb" "stat s" "stat s --json" "verify s" \
        "get s plain --read-mode pread" "dump s --read-mode pread --verify-reads off" \
        "get s plain --write-mode syscall --sync always --index-memory 2M" \
        "scan s --merge on --merge-trigger 1 --merge-segment 1 --merge-hours 0-24"; do
        # shellcheck disable=SC2086
        "$CASKADE" $line >/dev/null 2>&1 || [ $? -eq 1 ] || { echo "$line failed"; return 1; }
        fingerprint s >after
        diff before after || { echo "changed by: $line"; return 1; }
    done
}

@test "inspection changes nothing of a store that was closed" {
    caskade load s "$fixtures/hazards.tsv" 2>/dev/null
    fingerprint s >before
    inspect_all
}

@test "inspection changes nothing of a store whose writer was killed" {
    mkfifo input
    "$CASKADE" load s input --format tsv --report >report 2>/dev/null 3>&- &
    loader=$!
    exec 4<>input
    {
        printf 'plain\tvalue\n'
        awk 'BEGIN { for (i = 0; i < 5000; i++) printf "key%d\tthe value of key %d\n", i, i }'
    } >&4
    for _ in $(seq 200); do
        [ -s report ] && break
        sleep 0.05
    done
    kill -KILL $loader
    wait $loader || true
    exec 4>&-
    [ -s report ]
    fingerprint s >before
    inspect_all
    [ "$(caskade get s plain)" = value ]
}

@test "inspection changes nothing of a damaged store" {
    caskade load s "$fixtures/hazards.tsv" 2>/dev/null
    find s -name '*.hint' -exec truncate -s 10 {} +
    data=$(find s -name '*.data' -size +0 | head -n 1)
    truncate -s -1 "$data"
    fingerprint s >before
    for line in "get s plain" "exists s plain" "scan s" "dump s" "stat s" "verify s"; do
        # shellcheck disable=SC2086
        "$CASKADE" $line >/dev/null 2>&1 || true
        fingerprint s >after
        diff before after || { echo "changed by: $line"; return 1; }
    done
}

@test "inspection works where the store cannot be written to" {
    [ "$(id -u)" -ne 0 ] || skip "root may write everywhere"
    caskade put s plain value
    find s -type f -exec chmod a-w {} +
    find s -type d -exec chmod a-w {} +
    fingerprint s >before
    inspect_all
    try put s k v
    status_of_put=$status
    find s -type d -exec chmod u+w {} +
    [ "$status_of_put" -eq 3 ]
}
