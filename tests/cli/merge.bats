#!/usr/bin/env bats
# merge: what is dead goes, what lives stays, and nothing but a line on stderr is said.
load helpers

# Small segments, so that there are many; nothing merges by itself.
small="--shards 2 --segment-bytes 64K --merge off"

# 3,000 keys, each written six times.
make_store() {
    awk 'BEGIN { for (round = 0; round < 6; round++)
        for (i = 0; i < 3000; i++) printf "key%d\t%d %0100d\n", i, round, i }' >rounds.tsv
    # shellcheck disable=SC2086
    caskade load s rounds.tsv $small 2>/dev/null
}

# One number out of what stat --json prints: figure STORE NAME
figure() {
    caskade stat "$1" --json | grep -Eo "\"$2\":-?[0-9.]+" | head -n 1 | cut -d: -f2
}

# Nothing is dead but what the log itself needs, 32 bytes a sealed segment.
expect_nothing_dead() {
    dead=$(figure "$1" dead_bytes)
    segments=$(figure "$1" segments)
    echo "dead $dead, segments $segments"
    [ "$dead" -le $((segments * 32)) ]
}

merged_line='s: merged in [0-9.]+ s: read [0-9]+ bytes, wrote [0-9]+, freed [0-9]+$'

@test "a store whose keys were overwritten shrinks, and every value is right" {
    make_store
    awk 'BEGIN { for (i = 0; i < 3000; i++) printf "key%d\t5 %0100d\n", i, i }' | sort >expected
    before=$(figure s disk_bytes)
    live=$(figure s live_bytes)
    [ "$(figure s dead_bytes)" -gt $((4 * live)) ]
    try merge s
    expect_error 0 "$merged_line"
    [ -z "$output" ]
    after=$(figure s disk_bytes)
    echo "live $live, on disk before $before, after $after"
    [ "$after" -lt $((before / 3)) ]
    expect_nothing_dead s
    [ "$(figure s live_bytes)" -eq "$live" ]
    [ "$(figure s merge_debt_bytes)" -eq 0 ]
    contents s | cmp - expected
    [ "$(caskade verify s)" = ok ]
}

@test "keys that were deleted or have expired stay gone, and their space comes back" {
    make_store
    awk 'BEGIN { for (i = 30; i < 3000; i++)
        printf "{\"key\":\"key%d\",\"value\":\"\",\"expires_at\":1}\n", i }' >expired.jsonl
    # shellcheck disable=SC2086
    caskade load s expired.jsonl $small 2>/dev/null
    for i in 0 1 2 3 4 5 6 7 8 9; do caskade del s "key$i" --merge off; done
    awk 'BEGIN { for (i = 10; i < 30; i++) printf "key%d\t5 %0100d\n", i, i }' | sort >expected
    contents s | cmp - expected
    before=$(figure s disk_bytes)
    caskade merge s 2>/dev/null
    [ "$(figure s disk_bytes)" -lt $((before / 5)) ]
    contents s | cmp - expected
    for key in key0 key9 key30 key2999; do
        try get s "$key"
        expect_error 1 'no such key'
    done
    [ "$(figure s live_keys)" -eq 20 ]
    [ "$(caskade verify s)" = ok ]
    # They stay gone when the store is opened and merged again, and can be put anew.
    caskade put s key0 again --merge off
    caskade merge s 2>/dev/null
    [ "$(caskade scan s | wc -l)" -eq 21 ]
    [ "$(caskade get s key0)" = again ]
}

@test "a store all of whose keys were deleted becomes small" {
    for i in 1 2 3 4 5; do
        head -c 200000 /dev/zero | tr '\0' v | caskade put s "key$i" - --shards 1 --merge off
    done
    for i in 1 2 3 4 5; do caskade del s "key$i" --merge off; done
    caskade merge s 2>/dev/null
    [ -z "$(caskade scan s)" ]
    [ "$(figure s disk_bytes)" -lt 100000 ]
    [ "$(caskade verify s)" = ok ]
}

@test "merging again changes nothing" {
    make_store
    caskade merge s 2>/dev/null
    contents s >expected
    find s -name '*.data' -size +0 -exec sha256sum {} + | sort >data
    try merge s
    expect_error 0 's: merged in [0-9.]+ s: read 0 bytes, wrote 0, freed 0$'
    find s -name '*.data' -size +0 -exec sha256sum {} + | sort | cmp - data
    contents s | cmp - expected
}

@test "the line tells what was read, written and freed" {
    make_store
    live=$(figure s live_bytes)
    dead=$(figure s dead_bytes)
    caskade merge s 2>line
    numbers=$(sed -E 's/.*read ([0-9]+) bytes, wrote ([0-9]+), freed ([0-9]+)$/\1 \2 \3/' line)
    read -r bytes_read written freed <<<"$numbers"
    echo "live $live, dead $dead: $bytes_read $written $freed"
    # Headers and digests add a little to the records.
    [ "$written" -le $((live + live / 5)) ]
    [ "$bytes_read" -ge "$written" ]
    [ "$freed" -ge "$dead" ]
    [ "$freed" -le $((live + dead + (live + dead) / 5)) ]
}

@test "an empty store merges" {
    : >empty.tsv
    caskade load s empty.tsv 2>/dev/null
    try merge s
    expect_error 0 "$merged_line"
}

@test "merge takes every merge option, and what it asks for" {
    make_store
    options="--merge off --merge-trigger 99 --merge-segment 99% --merge-at-once 2"
    options="$options --merge-rate 1M --merge-hours 22-6"
    # shellcheck disable=SC2086
    try merge $options s
    expect_error 0 "$merged_line"
    expect_nothing_dead s
    try merge s --merge on
    expect_error 0 "$merged_line"
}

@test "merge of what is no store is a system error, and makes none" {
    try merge none
    expect_error 3 'none'
    [ ! -e none ]
    mkdir empty
    try merge empty
    expect_error 3 'empty'
    [ -z "$(ls -A empty)" ]
    echo mine >file
    try merge file
    expect_error 3 'file'
    [ "$(cat file)" = mine ]
}

@test "merge --read-only is refused" {
    make_store
    fingerprint s >before
    try merge s --read-only
    expect_error 2 's: the store was opened read-only'
    fingerprint s | cmp - before
}

@test "merge of a store on a read-only file system is a system error" {
    [ "$(id -u)" -eq 0 ] || skip "only root can mount a small file system"
    mkdir small
    mount -t tmpfs -o size=8m none small 2>/dev/null || skip "cannot mount a tmpfs here"
    caskade put small/s key one --merge off --shards 1
    caskade put small/s key two --merge off
    mount -o remount,ro small
    try merge small/s
    value=$(caskade get small/s key)
    umount small || umount -l small
    expect_error 3 'small/s'
    [ "$value" = two ]
}

@test "merge of a store that another process holds is locked" {
    caskade put s key value
    mkfifo input
    caskade load s input --format tsv 3>&- &
    loader=$!
    exec 4<>input
    for _ in $(seq 200); do
        grep -q ":$(stat -c %i s/LOCK) " /proc/locks && break
        sleep 0.05
    done
    try merge s
    expect_error 5 's'
    exec 4>&-
    wait $loader
    try merge s
    expect_ok
}

@test "merge of a damaged segment exits with 4, and the rest stays readable" {
    # shellcheck disable=SC2086
    caskade put s key "$(head -c 1000 /dev/zero | tr '\0' v)" $small
    # shellcheck disable=SC2086
    caskade put s other value $small
    make_store
    file=$(grep -rl vvvvvvvv s --include '*.data' | head -n 1)
    # A byte in the middle of the value: its record is the only one with so many of them.
    place=$(grep -abo vvvvvvvv "$file" | sed -n '50{s/:.*//p;q}')
    printf x | dd of="$file" bs=1 seek="$place" conv=notrunc status=none
    try merge s
    echo "status $status, stderr $stderr"
    [ "$status" -eq 4 ]
    [ -z "$output" ]
    printf '%s\n' "$stderr" | grep -q "$(basename "$file")"
    try get s key
    [ "$status" -eq 4 ]
    [ "$(caskade get s key7)" = "5 $(printf '%0100d' 7)" ]
    [ "$(caskade get s other)" = value ]
}

@test "a disk too full to merge is a system error, and nothing is lost" {
    [ "$(id -u)" -eq 0 ] || skip "only root can mount a small file system"
    mkdir small
    mount -t tmpfs -o size=12m none small 2>/dev/null || skip "cannot mount a tmpfs here"
    # One segment of 3 MB whose records live for the most part, and then no room at all.
    awk 'BEGIN { for (i = 0; i < 24000; i++) printf "key%d\t%0100d\n", i % 20000, i }' >many.tsv
    caskade load small/s many.tsv --shards 1 --merge off 2>/dev/null
    contents small/s >expected
    dd if=/dev/zero of=small/filler bs=64K 2>/dev/null || true
    try merge small/s
    contents small/s >got
    verified=$(caskade verify small/s || true)
    rm small/filler
    caskade merge small/s 2>second && again=0 || again=$?
    contents small/s >last
    umount small || umount -l small
    echo "status $status, stderr $stderr, again $again $(cat second)"
    [ "$status" -eq 3 ]
    [ -n "$stderr" ]
    cmp got expected
    [ "$verified" = ok ]
    [ "$again" -eq 0 ]
    cmp last expected
}

# Whether process $1 catches SIGINT by now.
catches_interrupt() {
    while read -r name mask; do
        if [ "$name" = SigCgt: ]; then
            [ $((0x$mask & 2)) -ne 0 ]
            return
        fi
    done 2>/dev/null <"/proc/$1/status"
    return 1
}

@test "an interrupt stops a merge" {
    env --default-signal=INT true 2>/dev/null || skip "env cannot unignore a signal"
    make_store
    contents s >expected
    mv s original
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        rm -rf s
        cp -a original s
        env --default-signal=INT "$CASKADE" merge s >out 2>err 3>&- &
        loader=$!
        until catches_interrupt $loader || ! kill -0 $loader 2>/dev/null; do :; done
        kill -INT $loader 2>/dev/null || true
        wait $loader && code=0 || code=$?
        [ "$code" -eq 0 ] || break # else it was too quick for us
    done
    cat err
    [ "$code" -eq 3 ]
    [ "$(wc -l <err)" -eq 1 ]
    grep -Eq '^caskade: s: interrupted; .* [0-9]+ bytes were freed$' err
    [ ! -s out ]
    contents s | cmp - expected
    [ "$(caskade verify s)" = ok ]
    try merge s
    expect_error 0 "$merged_line"
    expect_nothing_dead s
    contents s | cmp - expected
}

@test "a merge that is killed has lost nothing" {
    make_store
    contents s >expected
    mv s original
    for delay in 0 0.01 0.02 0.04 0.08 0.16; do
        rm -rf s
        cp -a original s
        "$CASKADE" merge s >/dev/null 2>&1 3>&- &
        loader=$!
        sleep $delay
        kill -KILL $loader 2>/dev/null || true
        wait $loader || true
        contents s | cmp - expected
        caskade merge s 2>/dev/null
        expect_nothing_dead s
        [ "$(caskade verify s)" = ok ]
    done
}

# Segments that are all half dead, so that all are copied.
make_half_dead() {
    awk 'BEGIN { for (i = 0; i < 40000; i++) printf "key%d\told %0200d\n", i, i
        for (i = 0; i < 40000; i += 2) printf "key%d\tnew\n", i }' >half.tsv
    # shellcheck disable=SC2086
    caskade load s half.tsv $small 2>/dev/null
}

# Merges s on a terminal and holds the merge for a moment in its middle, when eight segments were
# written, so that a bar is due however quick it is. Then a signal comes: INT, or CONT for none.
# Prints what the terminal saw; returns the exit code.
merge_on_terminal() {
    python3 - "$CASKADE" "$1" <<'PYTHON'
import glob, os, pty, signal, subprocess, sys, time

def data():
    return set(glob.glob("s/shard-*/*.data"))

known = data()
ours, theirs = pty.openpty()
# SIGINT is ignored wherever a shell has started the tests in the background.
merge = [sys.argv[1], "merge", "s", "--segment-bytes", "64K"]
process = subprocess.Popen(merge, stdout=theirs, stderr=theirs,
                           preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
os.close(theirs)
while len(data() - known) < 8 and process.poll() is None:
    pass
process.send_signal(signal.SIGSTOP)
time.sleep(0.3)
process.send_signal(signal.Signals["SIG" + sys.argv[2]])
process.send_signal(signal.SIGCONT)
seen = b""
try:
    while chunk := os.read(ours, 4096):
        seen += chunk
except OSError:  # all of the other end is closed
    pass
sys.stdout.buffer.write(seen)
sys.exit(process.wait())
PYTHON
}

@test "a terminal sees how far a merge is, and then what was done" {
    need python3
    make_half_dead
    merge_on_terminal CONT | tr '\r' '\n' >seen
    cat -v seen
    grep -Eq '\[#*\.*\] +[0-9]+% [0-9.]+[KM]?B, [0-9.]+[KM]?B/s, [0-9]+:[0-9]+ left$' seen
    grep -Eq "$merged_line" seen
    [ "$(caskade verify s)" = ok ]
}

@test "what was merged before an interrupt stays merged" {
    need python3
    make_half_dead
    contents s >expected
    before=$(figure s dead_bytes)
    merge_on_terminal INT >seen && code=0 || code=$?
    tr '\r' '\n' <seen | tee lines | cat -v
    [ "$code" -eq 3 ]
    freed=$(sed -n 's/.*s: interrupted; .* \([0-9]*\) bytes were freed$/\1/p' lines)
    echo "freed $freed"
    [ "$freed" -gt 0 ]
    left=$(figure s dead_bytes)
    [ "$left" -gt 0 ]
    [ "$left" -lt "$before" ]
    contents s | cmp - expected
    [ "$(caskade verify s)" = ok ]
    caskade merge s 2>/dev/null
    expect_nothing_dead s
    contents s | cmp - expected
}

@test "a pipe sees one line of a merge" {
    make_store
    caskade merge s 2>&1 >out | cat >err
    [ ! -s out ]
    [ "$(wc -l <err)" -eq 1 ]
    run ! grep -q "$(printf '\r')" err
}

@test "a closed standard error is no harm to a merge" {
    make_store
    contents s >expected
    "$CASKADE" merge s 2>&-
    expect_nothing_dead s
    contents s | cmp - expected
}
