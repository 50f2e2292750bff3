#!/usr/bin/env bats
# LMDB's own mdb_dump and mdb_load read what caskade writes, and the other way round.
load helpers

# LMDB's keys are at most 511 bytes, which the fixture keeps to.

@test "mdb_load reads a dump of caskade, in both styles" {
    need mdb_dump
    caskade load s "$fixtures/hazards.tsv" 2>/dev/null
    for format in lmdb lmdb-print; do
        rm -rf env
        mkdir env
        caskade dump s dump --format $format
        mdb_load -f dump env
        mdb_dump env >mdb.dump
        rm -rf copy
        caskade load copy mdb.dump 2>/dev/null
        contents copy | cmp - "$fixtures/hazards.expected" || { echo $format; return 1; }
    done
}

@test "caskade reads what mdb_dump writes" {
    need mdb_dump
    mkdir env
    mdb_load -f "$fixtures/hazards.lmdb" env
    mdb_dump env >bytes.dump
    caskade load s bytes.dump 2>/dev/null
    contents s | cmp - "$fixtures/hazards.expected"
}

@test "caskade reads what mdb_dump -p writes of records without backslashes" {
    need mdb_dump
    # mdb_dump -p of LMDB 0.9.24 leaves backslashes bare, so that even mdb_load cannot read them.
    caskade load s "$fixtures/hazards.tsv" 2>/dev/null
    contents s >all
    caskade del s --escaped 'back\\slash'
    caskade del s 'all bytes'
    caskade scan s --values | sort >expected
    caskade scan s | grep -a 'overlong' >/dev/null
    caskade dump s dump.lmdb
    mkdir env
    mdb_load -f dump.lmdb env
    mdb_dump -p env >print.dump
    grep -q '^format=print$' print.dump
    # The key of all bytes backwards has a backslash too.
    caskade load copy print.dump --keep-going 2>err || true
    contents copy >got
    [ "$(comm -3 got expected | wc -l)" -le 1 ]
    [ "$(comm -13 expected got | wc -l)" -eq 0 ]
}

@test "a dump of many records has a map size that mdb_load can live with" {
    need mdb_dump
    awk 'BEGIN { srand(1); for (i = 0; i < 20000; i++) {
        printf "key%d\t", (i * 7919) % 20000; n = int(rand() * 400)
        for (j = 0; j < n; j++) printf "x"; printf "\n" } }' >file.tsv
    caskade load s file.tsv 2>/dev/null
    caskade dump s dump.lmdb
    mkdir env
    mdb_load -f dump.lmdb env
    mdb_dump env | caskade load copy - --format lmdb 2>/dev/null
    contents s >expected
    contents copy | cmp - expected
}

@test "values of several pages go through LMDB and back" {
    need mdb_dump
    head -c 100000 /dev/urandom >value
    caskade put s big - <value
    caskade dump s dump.lmdb
    mkdir env
    mdb_load -f dump.lmdb env
    mdb_dump env >mdb.dump
    caskade load copy mdb.dump 2>/dev/null
    caskade get copy big --raw | cmp - value
}

@test "a database with several values a key is refused" {
    need mdb_dump
    printf 'VERSION=3\nformat=print\ntype=btree\ndupsort=1\nHEADER=END\n a\n 1\n a\n 2\nDATA=END\n' \
        >dups.dump
    try load s dups.dump
    [ "$status" -eq 6 ]
    printf '%s\n' "$stderr" | grep -q 'dups.dump:4: the database has several values a key'
    mkdir env
    mdb_load -f dups.dump env
    mdb_dump env >real.dump
    try load s real.dump
    [ "$status" -eq 6 ]
    printf '%s\n' "$stderr" | grep -q 'real.dump:[0-9]*: the database has several values a key'
}
