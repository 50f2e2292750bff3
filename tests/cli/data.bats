#!/usr/bin/env bats
# Real dictionaries, where they are at hand: load, dump, compare.
load helpers

@test "Open English WordNet as tsv" {
    file=$shared_data/oewn.tsv
    [ -r "$file" ] || skip "there is no $file"
    sort -u -t '	' -k 1,1 "$file" | wc -l >keys
    caskade load s "$file" 2>/dev/null
    [ "$(caskade scan s | wc -l)" -eq "$(cat keys)" ]
    # Where a lemma is there more than once its last line counts.
    awk -F '\t' '{ last[$1] = $0 } END { for (key in last) print last[key] }' "$file" |
        sort >expected
    contents s | cmp - expected
    caskade verify s
}

@test "Open English WordNet synsets as jsonl, values kept as their JSON text" {
    need zstd
    file=$shared_data/oewn-synsets.jsonl.zst
    [ -r "$file" ] || skip "there is no $file"
    zstd -dcq "$file" >synsets.jsonl
    caskade load s synsets.jsonl 2>/dev/null
    [ "$(caskade scan s | wc -l)" -eq "$(wc -l <synsets.jsonl)" ]
    # {"key": "K", "value": V}  ->  K TAB V, the backslashes of V doubled as tsv has them
    sed -E 's/^\{"key": "([^"]*)", "value": (.*)\}$/\1\t\2/; s/\\/\\\\/g' synsets.jsonl |
        sort >expected
    contents s | cmp - expected
    # A dump and another load change nothing more.
    caskade dump s dump.jsonl
    caskade load copy dump.jsonl 2>/dev/null
    contents copy | cmp - expected
}

@test "Open English WordNet through LMDB and back" {
    need mdb_load
    file=$shared_data/oewn.tsv
    [ -r "$file" ] || skip "there is no $file"
    caskade load s "$file" 2>/dev/null
    caskade dump s dump.lmdb
    mkdir env
    mdb_load -f dump.lmdb env
    mdb_dump env >mdb.dump
    caskade load copy mdb.dump 2>/dev/null
    contents s >expected
    contents copy | cmp - expected
}

@test "this machine's wordlist" {
    file=/usr/share/dict/words
    [ -r "$file" ] || skip "there is no $file"
    caskade load s "$file" --format lines 2>/dev/null
    sort -u "$file" >expected
    caskade dump s --format lines | sort | cmp - expected
}
