#!/bin/sh
# The workloads of caskade-bench about merging, run small:
#     sh tests/bench/merge_smoke.sh CASKADE_BENCH FOLDER WORKLOAD
# With segments of 64 KiB a few thousand keys are enough for merges. Values read back are checked by
# the program itself. Nothing here looks at a time.
set -eu
bench=$1
dir=$2
workload=$3

fail() {
    echo "merge_smoke: $1" >&2
    exit 1
}
rm -rf "$dir"
mkdir -p "$dir"
case $workload in
churn) num=10000 ;;
dictionary) num=250000 ;; # more than once over its 100,000 keys
*) num=2000 ;;
esac

"$bench" --engines caskade --workloads "$workload" --num "$num" --segment-bytes 65536 --shards 2 \
    --churn-rounds 3 --no-warm --dir "$dir/stores" --json "$dir/out.jsonl" \
    --plot "$dir/plot" >"$dir/out.txt" || fail "$workload failed"
[ -z "$(ls -A "$dir/stores")" ] || fail "stores are left in $dir/stores"
grep -q "^$workload *: .* micros/op .* caskade, 1 thread, round 1\$" "$dir/out.txt" ||
    fail "$workload has no line"

# figure NAME: its value, from the summary
figure() {
    value=$(awk -v name="$1" '/\(.* to .*\)/ && $NF == name { print $1 }' "$dir/out.txt")
    [ -n "$value" ] || fail "there is no figure $1"
    echo "$value"
}
# holds NAME CONDITION: an awk condition over v
holds() {
    value=$(figure "$1")
    awk -v v="$value" "BEGIN { exit !($2) }" || fail "$1 is $value, not $2"
}
case $workload in
churn) # how many merges there were depends on who else wants the processors
    holds disk_per_live_max 'v > 1'
    holds merges 'v >= 0'
    holds merges_failed 'v == 0'
    holds write_amplification 'v >= 1'
    ;;
dictionary)
    holds disk_per_live_max 'v > 1'
    holds merges_failed 'v == 0'
    holds live_bytes 'v == 100000 * 112' # 110 bytes and what aligns them
    ;;
mergelatency)
    holds pairs 'v > 0'
    holds merged_bytes 'v > 0'
    holds merges_failed 'v == 0'
    for kind in put get; do
        for name in p50 p99 p999 max; do
            holds "${kind}_${name}_ns_off" 'v > 0'
            holds "${kind}_${name}_ns_on" 'v > 0'
            holds "${kind}_${name}_ns_ratio" 'v > 0'
        done
    done
    holds ops_per_sec_ratio 'v > 0'
    ;;
mergespeed)
    holds dead_share 'v > 0.79 && v < 0.81'
    holds merge_per_cp 'v > 0'
    holds live_bytes 'v > 200000'
    ;;
*) fail "$workload is not about merging" ;;
esac

# The series, in the JSON and drawn.
case $workload in
churn | dictionary)
    grep -q '"series": \[\[0\.[0-9]*, 0, ' "$dir/out.jsonl" || fail "the JSON has no series"
    stem=$dir/plot/$workload-caskade-x1-r1
    [ "$(wc -l <"$stem.dat")" -ge 4 ] || fail "$stem.dat is too short"
    if command -v gnuplot >/dev/null; then
        [ -s "$stem.png" ] || fail "gnuplot drew no $stem.png"
    else
        echo "merge_smoke: gnuplot is not there: nothing drawn"
    fi
    ;;
esac
if command -v python3 >/dev/null; then
    python3 -c '
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
assert sum("figures" in row for row in rows) == 1, rows
for row in rows:
    for sample in row.get("series", []):
        assert len(sample) == len(row["series_columns"]), sample
' "$dir/out.jsonl" || fail "the JSON is wrong"
fi

# Engines without merging skip it, and that is no failure.
"$bench" --engines none --workloads "$workload" --num 10 --no-warm --dir "$dir/stores" \
    >"$dir/none.txt" || fail "a skipped workload fails"
grep -q "^$workload *: skipped: none has no merge\$" "$dir/none.txt" || fail "nothing is skipped"
echo "merge_smoke: $workload: everything is there"
