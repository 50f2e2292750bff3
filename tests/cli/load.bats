#!/usr/bin/env bats
# Loading: bad lines, duplicates, long lines, threads, kills.
load helpers

@test "the summary says how many records were loaded" {
    printf 'a\t1\nb\t2\n' >file.tsv
    try load s file.tsv
    expect_error 0 'file.tsv: loaded 2 records in [0-9.]+ s, [0-9]+/s$'
    [ -z "$output" ]
}

@test "an empty input is no records" {
    : >empty.tsv
    try load s empty.tsv
    expect_error 0 'loaded 0 records'
    [ -z "$(caskade scan s)" ]
    : >empty.lmdb
    try load s empty.lmdb
    [ "$status" -eq 6 ]
    printf '%s\n' "$stderr" | grep -q 'empty.lmdb:1: not an LMDB dump'
}

@test "a bad line stops the load; what was before it is there, what is behind it is not" {
    { seq -f 'a%g	1' 5000; echo bad; seq -f 'z%g	1' 5000; } >file.tsv
    for threads in 1 2 5; do
        rm -rf s
        try load s file.tsv --threads $threads
        [ "$status" -eq 6 ]
        printf '%s\n' "$stderr" | grep -q '^caskade: file.tsv:5001: no TAB behind the key$'
        printf '%s\n' "$stderr" | grep -q 'loaded 5000 records in .*; rejected 1$'
        [ "$(caskade scan s | grep -c '^a')" -eq 5000 ]
        [ "$(caskade scan s | grep -c '^z')" -eq 0 ]
    done
}

@test "the first of many bad lines stops the load, wherever its block is" {
    seq -f 'k%g	some value that makes the line longer so that there are many blocks' 60000 |
        awk 'NR % 7000 == 0 { print "bad"; next } { print }' >file.tsv
    for _ in 1 2 3; do
        rm -rf s
        try load s file.tsv --threads 4 --report
        [ "$status" -eq 6 ]
        [ "$(printf '%s\n' "$stderr" | grep -c 'no TAB')" -eq 1 ]
        printf '%s\n' "$stderr" | grep -q '^caskade: file.tsv:7000: '
        [ "$(caskade scan s | wc -l)" -eq 6999 ]
        [ "$(printf '%s\n' "$output" | tail -n 1)" = "loaded 6999" ]
    done
}

@test "--keep-going counts bad lines, names each and skips them" {
    printf 'a\t1\nbad\nb\t2\n\n\tno key\nc\\q\t3\nd\t4' >file.tsv
    try load s file.tsv --keep-going
    [ "$status" -eq 6 ]
    printf '%s\n' "$stderr" | head -n 4 >lines
    cat >expected <<'EOF'
caskade: file.tsv:2: no TAB behind the key
caskade: file.tsv:4: the line is empty
caskade: file.tsv:5: the key is empty
caskade: file.tsv:6: byte 2: not an escape; these are: \t \n \r \\ \xHH
EOF
    diff lines expected
    printf '%s\n' "$stderr" | tail -n 1 | grep -q 'loaded 3 records in .*; rejected 4$'
    [ "$(contents s | tr '\t\n' '= ')" = "a=1 b=2 d=4 " ]
}

@test "bad lines of jsonl are named with the reason and the place" {
    cat >file.jsonl <<'EOF'
{"key":"good","value":"1"}
{"key":"a"}
{"value":"a"}
{"key":"a","key":"b","value":"c"}
{"key":"a","value":"b","value64":"Yg=="}
{"key":"a","value":"b"} x
{"key":"a","value":"\ud800"}
{"key":"a","value":01}
{"key":"a","value":"b"
{"key":1,"value":"b"}
{"key":"a","value":"b","color":"red"}
{"key64":"a","value":"b"}
["key","value"]
{"key":"a","value":tru}
{"key":"","value":"b"}

{"key":"a","value":"b","expires_at":-5}
EOF
    printf '{"key":"a","value":"\377"}\n{"key":"good too","value":"2"}\n' >>file.jsonl
    try load s file.jsonl --keep-going
    [ "$status" -eq 6 ]
    printf '%s\n' "$stderr" | sed '$d' >lines
    cat >expected <<'EOF'
caskade: file.jsonl:2: byte 12: no value
caskade: file.jsonl:3: byte 14: no key
caskade: file.jsonl:4: byte 17: two keys
caskade: file.jsonl:5: byte 33: two values
caskade: file.jsonl:6: byte 25: something follows the object
caskade: file.jsonl:7: byte 21: not a Unicode character: \u wants four digits and no lone surrogate
caskade: file.jsonl:8: byte 22: not a JSON number
caskade: file.jsonl:9: byte 23: a comma or a closing brace is expected here
caskade: file.jsonl:10: byte 8: a string is expected here
caskade: file.jsonl:11: byte 31: unknown member; these are: key key64 value value64 expires_at
caskade: file.jsonl:12: byte 13: not base64
caskade: file.jsonl:13: byte 1: an object {"key":...,"value":...} is expected here
caskade: file.jsonl:14: byte 20: not a JSON value
caskade: file.jsonl:15: the key is empty
caskade: file.jsonl:16: the line is empty
caskade: file.jsonl:17: byte 39: expires_at is not a number of milliseconds since 1970
caskade: file.jsonl:18: byte 21: not UTF-8; bytes go into key64 and value64
EOF
    diff lines expected
    [ "$(contents s | tr '\t\n' '= ')" = "good=1 good too=2 " ]
}

@test "of several records of one key the last wins, with any number of threads" {
    # 2,000 keys, 40 times each, in an order that differs each time.
    awk 'BEGIN { for (round = 0; round < 40; round++)
        for (i = 0; i < 2000; i++)
            printf "key%d\t%d padding padding padding padding\n", (i * 7919 + round * 13) % 2000, round }' \
        >file.tsv
    awk 'BEGIN { for (i = 0; i < 2000; i++)
        printf "key%d\t39 padding padding padding padding\n", i }' | sort >expected
    for options in "--threads 1" "--threads 2" "--threads 7" "--threads 3 --report" \
        "--threads 4 --sync always" "--threads 2 --write-mode syscall"; do
        rm -rf s
        # shellcheck disable=SC2086
        caskade load s file.tsv $options >/dev/null 2>&1
        contents s | cmp - expected || { echo "$options"; return 1; }
    done
}

@test "CRLF, a missing last line feed and NULs are taken as they are meant" {
    printf 'a\t1\r\nb\t2\r\r\nc\0\t\0' | caskade load s 2>/dev/null
    caskade dump s | sort >got
    printf 'a\t1\nb\t2\\r\nc\0\t\0\n' | cmp - got
}

@test "keys of 65,535 bytes load, of 65,536 are bad lines" {
    key=$(head -c 65535 /dev/zero | tr '\0' k)
    { printf '%s\tvalue\n' "$key"; printf '%sk\tvalue\n' "$key"; printf 'a\tb\n'; } >file.tsv
    try load s file.tsv --keep-going
    [ "$status" -eq 6 ]
    printf '%s\n' "$stderr" | grep -q '^caskade: file.tsv:2: the key is longer than 65,535 bytes$'
    [ "$(caskade scan s | wc -l)" -eq 2 ]
    [ "$(caskade get s "$key")" = value ]
    printf '%s\n' "${key}k" >file.words
    try load s file.words
    [ "$status" -eq 6 ]
    printf '{"key":"%sk","value":""}\n' "$key" >file.jsonl
    try load s file.jsonl
    [ "$status" -eq 6 ]
}

@test "lines much longer than a block load" {
    head -c 5000000 /dev/zero | tr '\0' v >value
    { printf 'a\t1\nlong\t'; cat value; printf '\nb\t2\nalso\t'; cat value; } >file.tsv
    caskade load s file.tsv 2>/dev/null
    caskade get s long --raw | cmp - value
    caskade get s also --raw | cmp - value
    [ "$(caskade get s b)" = 2 ]
    for format in jsonl lmdb; do
        caskade dump s dump --format $format
        rm -rf copy
        caskade load copy dump --format $format --report >/dev/null 2>&1
        caskade get copy long --raw | cmp - value
        [ "$(caskade get copy b)" = 2 ]
    done
}

@test "loading again on top changes only what the file names" {
    printf 'a\t1\nb\t2\n' | caskade load s 2>/dev/null
    printf 'b\t3\nc\t4\n' | caskade load s 2>/dev/null
    [ "$(contents s | tr '\t\n' '= ')" = "a=1 b=3 c=4 " ]
}

@test "--report counts up to the end, at least every 10,000 records" {
    seq 50000 >file.words
    caskade load s file.words --report >report 2>/dev/null
    [ "$(tail -n 1 report)" = "loaded 50000" ]
    awk '$1 != "loaded" || $2 <= last || $2 - last > 10000 { exit 1 } { last = $2 }' report
}

@test "after a kill everything that was reported is there" {
    for round in 1 2 3; do
        rm -rf s
        mkfifo input
        "$CASKADE" load s input --format tsv --report >report 2>/dev/null 3>&- &
        loader=$!
        # An endless input, so that the kill comes in its middle.
        awk 'BEGIN { for (i = 1; ; i++) printf "key%d\tvalue of key %d\n", i, i }' \
            >input 2>/dev/null 3>&- &
        for _ in $(seq 500); do
            [ "$(wc -l <report)" -gt $((round * 20)) ] && break
            sleep 0.02
        done
        kill -KILL $loader
        wait $loader || true
        wait || true
        rm input
        reported=$(tail -n 1 report | cut -d' ' -f2)
        echo "reported $reported"
        [ "$reported" -gt 0 ]
        contents s >got
        awk -v n="$reported" 'BEGIN { for (i = 1; i <= n; i++)
            printf "key%d\tvalue of key %d\n", i, i }' | sort >expected
        [ "$(comm -13 got expected | wc -l)" -eq 0 ]
        # Whatever else is there came from the input.
        run ! grep -Ev '^key([0-9]+)	value of key \1$' got
        caskade put s after kill
        [ "$(caskade verify s)" = ok ]
    done
}

@test "a reader of --report that goes away stops the load quietly" {
    seq 2000000 >file.words
    { "$CASKADE" load s file.words --report 2>err || echo $? >code; } | head -n 1 >first
    [ -s first ]
    [ "$(cat code)" -eq 141 ]
    run ! grep -v 'loaded [0-9]* records' err
    [ "$(caskade verify s)" = ok ]
}

@test "a bad line of an LMDB dump is named; one out of place ends the load" {
    head='VERSION=3\nformat=bytevalue\ntype=btree\nHEADER=END\n'
    # shellcheck disable=SC2059
    printf "$head 61\n 31\n 6x\n 32\n 63\n 33\nDATA=END\n" >one.lmdb
    try load s one.lmdb --keep-going
    [ "$status" -eq 6 ]
    printf '%s\n' "$stderr" | grep -q 'one.lmdb:7: byte 2: not a pair of hexadecimal digits'
    [ "$(contents s | tr '\t\n' '= ')" = "a=1 c=3 " ]
    # shellcheck disable=SC2059
    printf "$head 61\n 31\n62\n 32\n 63\n 33\nDATA=END\n" >two.lmdb
    rm -rf s
    try load s two.lmdb --keep-going
    [ "$status" -eq 6 ]
    printf '%s\n' "$stderr" | grep -q 'two.lmdb:7: neither a key'
    [ "$(contents s | tr '\t\n' '= ')" = "a=1 " ]
    # shellcheck disable=SC2059
    printf "$head 61\n 31\n 62\n" >three.lmdb
    try load s three.lmdb
    [ "$status" -eq 6 ]
    printf '%s\n' "$stderr" | grep -q 'three.lmdb:7: the dump ends between a key and its value'
    # shellcheck disable=SC2059
    printf "$head 61\n 31\n" >four.lmdb
    try load s four.lmdb
    [ "$status" -eq 6 ]
    printf '%s\n' "$stderr" | grep -q 'four.lmdb:6: the dump ends without DATA=END'
    printf 'a\tb\n' >five.lmdb
    try load s five.lmdb
    [ "$status" -eq 6 ]
    printf '%s\n' "$stderr" | grep -q 'five.lmdb:1: not an LMDB dump'
}

@test "memory stays bounded, whatever the size of the input" {
    # 150 MB through a pipe, under a limit that the input alone would break. The store's own
    # mappings do not count as data.
    case $(nm -C "$CASKADE" 2>/dev/null | grep -c '__asan_init\|__tsan_init') in
    0) ;;
    *) skip "sanitizers reserve more than the limit" ;;
    esac
    awk 'BEGIN { for (i = 0; i < 1500000; i++) printf "key%d\t%090d\n", i % 1000, i }' |
        (ulimit -d 131072; exec "$CASKADE" load s --index-memory 16M) 2>err || { cat err; return 1; }
    grep -q 'loaded 1500000 records' err
    [ "$(caskade scan s | wc -l)" -eq 1000 ]
}
