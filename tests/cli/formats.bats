#!/usr/bin/env bats
# The formats of load and dump, and the fixture that holds every hazard.
load helpers

@test "the same records come out of the hazards in every format" {
    for file in hazards.tsv hazards.jsonl hazards.lmdb hazards-print.lmdb; do
        rm -rf s
        caskade load s "$fixtures/$file" 2>/dev/null
        contents s >got
        cmp got "$fixtures/hazards.expected" || { echo "$file"; return 1; }
    done
}

@test "what is dumped is loaded again, byte for byte, in every format" {
    caskade load s "$fixtures/hazards.tsv" 2>/dev/null
    for format in tsv jsonl lmdb lmdb-print; do
        caskade dump s dump --format $format
        rm -rf copy
        caskade load copy dump --format $format 2>/dev/null
        contents copy | cmp - "$fixtures/hazards.expected" || { echo $format; return 1; }
        caskade dump copy - --format $format >again
        sort dump >dump.sorted
        sort again | cmp - dump.sorted || { echo $format; return 1; }
    done
}

@test "a wordlist is keys as they stand" {
    caskade load s "$fixtures/hazards.words" 2>/dev/null
    caskade scan s | sort | cmp - "$fixtures/hazards-words.expected"
    caskade dump s words.txt
    caskade load copy words.txt 2>/dev/null
    caskade scan copy | sort | cmp - "$fixtures/hazards-words.expected"
}

@test "values that are not strings are kept as their JSON text" {
    caskade load s "$fixtures/values.jsonl" 2>/dev/null
    contents s | cmp - "$fixtures/values.expected"
    caskade dump s again.jsonl
    caskade load copy again.jsonl 2>/dev/null
    contents copy | cmp - "$fixtures/values.expected"
}

@test "a dump in jsonl is JSON to others too" {
    need python3
    caskade load s "$fixtures/hazards.tsv" 2>/dev/null
    caskade dump s dump.jsonl
    python3 - dump.jsonl "$fixtures/hazards.expected" <<'EOF'
import base64, json, sys
def escape(b):
    for raw, name in ((b'\\', b'\\\\'), (b'\t', b'\\t'), (b'\n', b'\\n'), (b'\r', b'\\r')):
        b = b.replace(raw, name)
    return b
def take(record, name):
    if name in record:
        return record[name].encode()
    return base64.b64decode(record[name + '64'], validate=True)
records = [json.loads(line) for line in open(sys.argv[1], 'rb')]
lines = sorted(escape(take(r, 'key')) + b'\t' + escape(take(r, 'value')) + b'\n' for r in records)
assert b''.join(lines) == open(sys.argv[2], 'rb').read()
EOF
}

@test "the ending of the name picks the format" {
    caskade put s key value
    for pair in "a.tsv:key	value" "a.txt:key" "a.words:key" 'a.jsonl:{"key":"key","value":"value"}' \
        'a.ndjson:{"key":"key","value":"value"}' "a.lmdb:VERSION=3" "a.dump:VERSION=3" \
        "a.mdbdump:VERSION=3"; do
        file=${pair%%:*}
        caskade dump s "$file" 2>/dev/null
        [ "$(head -n 1 "$file")" = "${pair#*:}" ] || { echo "$file"; return 1; }
        rm -rf copy
        caskade load copy "$file" 2>/dev/null
        [ "$(caskade scan copy)" = key ] || { echo "$file"; return 1; }
    done
}

@test "a name that tells nothing is a usage error, --format settles it" {
    printf 'key\tvalue\n' >file
    try load s file
    expect_error 2 'file: its ending names no format'
    [ ! -e s ]
    try load s file --format tsv
    expect_ok
    try dump s out.bin
    expect_error 2 'out.bin: its ending names no format'
    [ ! -e out.bin ]
    try load copy file.tsv --format lines
    expect_error 3 'file.tsv: No such file'
    [ ! -e copy ]
}

@test "--format wins over the ending" {
    printf 'key\tvalue\n' >file.txt
    caskade load s file.txt --format tsv 2>/dev/null
    [ "$(caskade get s key)" = value ]
}

@test "standard streams are tsv" {
    printf 'key\tvalue\n' | caskade load s 2>/dev/null
    printf 'other\tvalue\n' | caskade load s - 2>/dev/null
    caskade dump s | sort >got
    printf 'key\tvalue\nother\tvalue\n' | cmp - got
    caskade dump s - | sort | cmp - got
}

@test "a compressed file is read, and a truncated one refused" {
    need zstd
    caskade load probe /dev/null --format tsv 2>/dev/null
    zstd -q "$fixtures/hazards.jsonl" -o hazards.jsonl.zst
    try load s hazards.jsonl.zst
    if printf '%s\n' "$stderr" | grep -q 'built without zstd'; then
        skip "this caskade was built without zstd"
    fi
    expect_ok
    contents s | cmp - "$fixtures/hazards.expected"
    # Two frames, one behind the other, are one file.
    printf 'a\t1\n' | zstd -q >two.tsv.zst
    printf 'b\t2\n' | zstd -q >>two.tsv.zst
    caskade load s2 two.tsv.zst 2>/dev/null
    [ "$(contents s2 | tr '\t\n' '= ')" = "a=1 b=2 " ]
    head -c 100 hazards.jsonl.zst >cut.jsonl.zst
    try load s3 cut.jsonl.zst
    [ "$status" -eq 3 ]
    printf '%s\n' "$stderr" | grep -q 'cut.jsonl.zst: the compressed file ends in the middle'
    echo nonsense >bad.jsonl.zst
    try load s4 bad.jsonl.zst
    [ "$status" -eq 3 ]
    try dump s out.tsv.zst
    expect_error 2 'not compressed'
}

@test "a dump says what its format cannot carry" {
    caskade put s key value
    try dump s --format lines
    [ "$status" -eq 0 ]
    expect_error 0 'warning: <stdout>: the values of 1 keys are left out'
    caskade put s key value --expires-in 1h
    try dump s
    expect_error 0 'warning: <stdout>: 1 keys lose their expiry'
    try dump s --format jsonl
    [ -z "$stderr" ]
    caskade put s "$(head -c 512 /dev/zero | tr '\0' k)" value
    try dump s --format lmdb
    printf '%s\n' "$stderr" | grep -q 'warning: <stdout>: 1 keys are longer than the 511 bytes'
}

@test "jsonl keeps when a key expires" {
    caskade put s key value --expires-at 32503680000000
    caskade dump s dump.jsonl
    grep -q '"expires_at":32503680000000}$' dump.jsonl
    caskade load copy dump.jsonl 2>/dev/null
    caskade dump copy --format jsonl | cmp - dump.jsonl
    printf '{"key":"a","value":"b","expires_at":1}\n' | caskade load copy --format jsonl 2>/dev/null
    try exists copy a
    expect_error 1 'no such key'
}

@test "a key with a line feed cannot go into a wordlist" {
    caskade put s --escaped 'a\nb' ''
    try dump s --format lines
    expect_error 2 'a key has a line.s end in it'
    caskade put t --escaped 'a\r' ''
    try dump t --format lines
    expect_error 2 'a key has a line.s end in it'
}
