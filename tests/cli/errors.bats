#!/usr/bin/env bats
# Every exit code, each with one clear line; nothing is created or lost on the way.
load helpers

# Whether some process holds the store's lock; asking takes no lock, which would be in the way.
is_locked() {
    [ -e "$1/LOCK" ] && grep -q ":$(stat -c %i "$1/LOCK") " /proc/locks
}

@test "no verb, and one that does not exist, are usage errors" {
    try
    expect_error 2 'no verb'
    try frobnicate s
    expect_error 2 "no verb 'frobnicate'"
    try help frobnicate
    expect_error 2 "no verb 'frobnicate'"
}

@test "operands too few or too many are usage errors" {
    for line in "put" "put s" "put s k" "get s" "del s" "exists s" "scan" "load" "dump" "stat" \
        "merge" "verify" "put s k v x" "get s k x" "scan s x" "load s f x" "merge s x" \
        "version x" "help a b"; do
        # shellcheck disable=SC2086
        try $line
        expect_error 2 'too (few|many) operands' || { echo "$line"; return 1; }
    done
    [ ! -e s ]
}

@test "an empty name of a store is a usage error" {
    for line in "put k v" "get k" "del k" "exists k" scan load dump stat merge verify; do
        # shellcheck disable=SC2086
        set -- $line
        verb=$1
        shift
        try "$verb" "" "$@"
        expect_error 2 "$verb: DIR is empty" || { echo "$line"; return 1; }
    done
}

@test "options that are unknown or wrong are usage errors" {
    for option in --frob --shards --shards=3 --shards=0 --shards=512 --shards=x --index-memory=1 \
        --index-memory=x --index-memory=5Q --index-memory=99999999999999999999 \
        --index-memory=1025G \
        --segment-bytes=255 --segment-bytes=3G --segment-bytes=-1 --sync=sometimes \
        --sync=interval=0ms --sync=interval=2h --sync=interval=5 --write-mode=pread \
        --read-mode=syscall --verify-reads=maybe --read-only=yes --expires-in=10 \
        --expires-in=x --expires-at=0 --expires-at=soon --expires-at=72057594037927936 \
        --merge --merge=yes --merge= --merge-trigger=0 --merge-trigger=100 --merge-trigger=5x \
        --merge-trigger=-1 --merge-segment=0 --merge-segment=100% --merge-segment=% \
        --merge-at-once=0 --merge-at-once=257 --merge-at-once=all --merge-rate=0 --merge-rate=fast \
        --merge-rate=50M/s --merge-hours=5 --merge-hours=5- --merge-hours=-6 --merge-hours=5-5 \
        --merge-hours=0-25 --merge-hours=24-6 --merge-hours=1:00-2:00 --merge-hours=1-2-3 \
        --merge-hours=100-6 --merge-hours=never \
        --values --json --format=tsv -x; do
        try put s k v "$option"
        expect_error 2 'put: ' || { echo "$option"; return 1; }
    done
    try scan s --limit x
    expect_error 2 '--limit'
    try load s --threads 0
    expect_error 2 '--threads'
    try load s --threads 257
    expect_error 2 '--threads'
    try load s --format csv
    expect_error 2 '--format: it is tsv, lines, jsonl'
    try merge s --merge-hours 6
    expect_error 2 "merge: --merge-hours: it is FROM-UNTIL, .*, not '6'"
    try merge s --json
    expect_error 2 'merge: option --json'
    try get s -dash
    expect_error 2 'get: option -d is unknown'
    try get s -hx k
    expect_error 2 'get: option -x is unknown'
    [ ! -e s ]
}

@test "keys that cannot be are usage errors" {
    for verb in get del exists; do
        try $verb s ''
        expect_error 2 'the key is empty'
    done
    try put s '' v
    expect_error 2 's: the key is empty'
    try put s "$(head -c 65536 /dev/zero | tr '\0' k)" v
    expect_error 2 's: the key is longer than 65,535 bytes'
    try get s --escaped 'a\q'
    expect_error 2 'KEY: byte 2: not an escape'
    try put s --escaped k 'abc\x4'
    expect_error 2 'VALUE: byte 4: not an escape'
    [ ! -e s ]
}

@test "a key of 65,535 bytes is stored" {
    key=$(head -c 65535 /dev/zero | tr '\0' k)
    caskade put s "$key" value
    [ "$(caskade get s "$key")" = value ]
    try get s "${key%k}"
    expect_error 1 'no such key'
}

@test "verbs other than put and load do not create a store" {
    for line in "get none k" "del none k" "exists none k" "scan none" "dump none" "stat none" \
        "merge none" "verify none"; do
        # shellcheck disable=SC2086
        try $line
        expect_error 3 'none' || { echo "$line"; return 1; }
        [ ! -e none ]
    done
}

@test "verbs other than put and load do not make a directory a store" {
    mkdir empty
    for line in "get empty k" "del empty k" "scan empty" "stat empty" "merge empty" \
        "verify empty"; do
        # shellcheck disable=SC2086
        try $line
        expect_error 3 'empty' || { echo "$line"; return 1; }
        [ -z "$(ls -A empty)" ]
    done
}

@test "a directory that holds other files does not become a store" {
    mkdir home
    echo mine >home/file
    try put home k v
    expect_error 3 'home'
    try get home k
    expect_error 3 'home'
    [ "$(ls -A home)" = file ]
}

@test "a file is not a store" {
    echo mine >file
    try put file k v
    expect_error 3 'file'
    try get file k
    expect_error 3 'file'
    [ "$(cat file)" = mine ]
}

@test "a store cannot be made where there is no parent directory" {
    try put no/such/place k v
    expect_error 3 'no/such/place'
}

@test "put --read-only is refused" {
    caskade put s k v
    before=$(fingerprint s)
    try put s k w --read-only
    expect_error 2 's'
    [ "$(fingerprint s)" = "$before" ]
}

@test "shards that differ from the store's are refused" {
    caskade put s k v --shards 4
    try put s k w --shards 8
    expect_error 2 's'
    [ "$(caskade get s k --shards 4)" = v ]
}

@test "a store that another process holds is locked" {
    mkfifo input
    # The fifo is kept open for writing here, so the loader waits for more.
    caskade load s input --format tsv 3>&- &
    loader=$!
    exec 4<>input
    for _ in $(seq 200); do
        [ -e s/CASKADE ] && break
        sleep 0.05
    done
    for _ in $(seq 200); do
        is_locked s && break
        sleep 0.05
    done
    try put s k v
    expect_error 5 's'
    try del s k
    expect_error 5 's'
    exec 4>&-
    wait $loader
    try put s k v
    expect_ok
}

@test "a store can be read while another process writes" {
    caskade put s k v
    mkfifo input
    caskade load s input --format tsv 3>&- &
    loader=$!
    exec 4<>input
    for _ in $(seq 200); do
        is_locked s && break
        sleep 0.05
    done
    try get s k
    expect_ok
    [ "$output" = v ]
    try stat s
    expect_ok
    exec 4>&-
    wait $loader
}

@test "a lock is gone with the process that held it" {
    mkfifo input
    caskade load s input --format tsv 3>&- &
    loader=$!
    exec 4<>input
    for _ in $(seq 200); do
        is_locked s && break
        sleep 0.05
    done
    kill -KILL $loader
    wait $loader || true
    exec 4>&-
    try put s k v
    expect_ok
}

# Changes one byte in the middle of a file.
damage() {
    size=$(stat -c %s "$1")
    place=$((size / 2))
    byte=$(od -An -tu1 -j $place -N 1 "$1")
    # shellcheck disable=SC2059
    printf "$(printf '\\%03o' $((byte ^ 1)))" |
        dd of="$1" bs=1 seek=$place conv=notrunc status=none
}

@test "verify finds a damaged record, names the file, and exits with 4" {
    caskade put s key "$(head -c 1000 /dev/zero | tr '\0' v)" --shards 1
    data=$(find s -name '*.data' -size +0 | head -n 1)
    damage "$data"
    try verify s
    echo "$output"
    [ "$status" -eq 4 ]
    printf '%s\n' "$output" | grep -q "$(basename "$data")"
    expect_error 4 's: the store is damaged: [0-9]+ problem'
}

@test "get of a damaged record is never a wrong value" {
    caskade put s key "$(head -c 1000 /dev/zero | tr '\0' v)" --shards 1
    damage "$(find s -name '*.data' -size +0 | head -n 1)"
    try get s key
    echo "status $status stderr $stderr"
    [ "$status" -eq 4 ]
    [ -z "$output" ]
    [ -n "$stderr" ]
}

@test "a damaged superblock is corruption" {
    caskade put s k v
    damage s/CASKADE
    try get s k
    expect_error 4 'CASKADE'
    try put s k v
    expect_error 4 'CASKADE'
}

@test "a full standard output is a system error" {
    [ -c /dev/full ] || skip "there is no /dev/full"
    caskade load s "$fixtures/hazards.tsv" 2>/dev/null
    for line in "get s plain" "scan s" "dump s" "stat s" "stat s --json" "verify s" "help" \
        "version" "help --completion"; do
        # shellcheck disable=SC2086
        "$CASKADE" $line >/dev/full 2>err && status=0 || status=$?
        cat err
        [ $status -eq 3 ] || { echo "$line: $status"; return 1; }
        grep -q '^caskade: <stdout>: No space left on device$' err
        [ "$(wc -l <err)" -eq 1 ]
    done
    try dump s /dev/full --format tsv
    expect_error 3 '/dev/full: No space left on device'
}

@test "a reader that goes away ends the command quietly" {
    seq -f 'k%06g' 20000 | caskade load s - --format lines 2>/dev/null
    for verb in scan dump; do
        { "$CASKADE" $verb s 2>err || echo $? >code; } | head -n 1 >first
        cat err
        [ -s first ]
        [ ! -s err ]
        [ "$(cat code)" -eq 141 ] # 128 + SIGPIPE, as of any command
    done
}

@test "a closed standard output is an error and harms no file" {
    caskade put s k v
    "$CASKADE" get s k >&- 2>err && status=0 || status=$?
    [ $status -eq 3 ]
    "$CASKADE" put s k w <&- >&- 2>&- && status=0 || status=$?
    [ $status -eq 0 ]
    [ "$(caskade get s k)" = w ]
    try verify s
    expect_ok
}

@test "a standard input that cannot be read is a system error" {
    mkdir folder
    "$CASKADE" put s k - <folder 2>err && status=0 || status=$?
    [ $status -eq 3 ]
    grep -q '^caskade: <stdin>: Is a directory$' err
    "$CASKADE" load s - <folder 2>err && status=0 || status=$?
    [ $status -eq 3 ]
    grep -q '^caskade: <stdin>: Is a directory$' err
    [ ! -e s ]
}

@test "a full disk stops a load with a system error, and what was reported is there" {
    [ "$(id -u)" -eq 0 ] || skip "only root can mount a small file system"
    mkdir small
    mount -t tmpfs -o size=8m none small 2>/dev/null || skip "cannot mount a tmpfs here"
    awk 'BEGIN { for (i = 1; i <= 200000; i++) printf "key%d\tvalue of key %060d\n", i, i }' >all.tsv
    try load small/s all.tsv --report --segment-bytes 1M
    echo "status $status stderr $stderr"
    loaded=$(printf '%s\n' "$output" | tail -n 1 | cut -d' ' -f2)
    caskade dump small/s | sort >got || true
    caskade verify small/s >verified 2>&1 || true
    umount small || umount -l small
    [ "$status" -eq 3 ]
    printf '%s\n' "$stderr" | grep -q '^caskade: small/s'
    printf '%s\n' "$stderr" | grep -q 'all.tsv: loaded [0-9]* records'
    [ "$loaded" -gt 0 ]
    head -n "$loaded" all.tsv | sort >expected
    [ "$(comm -13 got expected | wc -l)" -eq 0 ]
    [ "$(cat verified)" = ok ]
}
