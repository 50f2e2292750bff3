#!/bin/sh
# caskade-bench, run small: sh tests/bench_smoke.sh CASKADE_BENCH FOLDER [ENGINES]
#
# Every workload on every engine that was built in (or those named), two thread counts, two rounds: each must print
# its line and write its JSON object; every value read is checked by the program itself. Nothing here
# looks at a time.
set -eu
bench=$1
dir=$2
num=2000
workloads=fillrandom,readrandom,readmissing,overwrite,getmany,reopen,batch,reopenkill,syncalways

fail() {
    echo "bench_smoke: $1" >&2
    exit 1
}

rm -rf "$dir"
mkdir -p "$dir"
built=$("$bench" --help | sed -n '/^Engines:/,/^Workloads:/p' |
    awk '/^  / && $1 != "none" && !/not found when this was built/ { print $1 }' | paste -s -d , -)
case ,$built, in
*,caskade,*) ;;
*) fail "--help does not list caskade but '$built'" ;;
esac
engines=${3:-$built}

"$bench" --engines "$engines" --workloads "$workloads" --num "$num" --threads 1,2 --rounds 2 \
    --sync-ops 20 --dir "$dir/stores" --json "$dir/out.jsonl" --plot "$dir/plot" >"$dir/out.txt" ||
    fail "the run failed"

# expect COUNT PATTERN FILE
expect() {
    found=$(grep -c -e "$2" "$3" || true)
    [ "$found" -eq "$1" ] || fail "$found lines of $3 match '$2', not $1"
}
for engine in $(echo "$engines" | tr , ' '); do
    for workload in $(echo "$workloads" | tr , ' '); do
        for threads in 1 2; do
            for round in 1 2; do
                expect 1 "^$workload *: .* micros/op .* $engine, $threads threads*, round $round\$" \
                    "$dir/out.txt"
                expect 1 "\"engine\": \"$engine\", \"workload\": \"$workload\", \"threads\": $threads, \"num\": [0-9]*, \"round\": $round," \
                    "$dir/out.jsonl"
            done
            expect 1 "^$workload  *$threads  *$engine " "$dir/out.txt"
        done
        expect 1 " $engine $workload x2 / $engine $workload x1\$" "$dir/out.txt"
        [ "$engine" = caskade ] ||
            expect 1 " caskade $workload x1 / $engine $workload x1\$" "$dir/out.txt"
    done
    expect 1 " $engine getmany x1 / $engine readrandom x1\$" "$dir/out.txt"
    expect 1 " $engine batch x1 / $engine fillrandom x1\$" "$dir/out.txt"
done
expect 0 'wrong\|failed' "$dir/out.txt"

# Every line of the JSON parses; what is known of Caskade is there.
if command -v python3 >/dev/null; then
    python3 - "$dir/out.jsonl" "$num" <<'EOF'
import json, sys
fields = """engine workload threads num round ops seconds ns_per_op p50_ns p99_ns p999_ns max_ns
    rss_anon_bytes disk_bytes index_ram_bytes""".split()
for line in open(sys.argv[1]):
    row = json.loads(line)
    if "engine" not in row or "round" not in row:
        assert "median_of" in row or "ratio_of" in row, line
        continue
    assert all(field in row for field in fields), line
    assert row["seconds"] > 0 and row["disk_bytes"] > 0, line
    assert row["ops"] == (20 * row["threads"] if row["workload"] == "syncalways"
                          else int(sys.argv[2])), line
    assert (row["p50_ns"] is None) == row["workload"].startswith("reopen"), line
    assert row["p50_ns"] is None or row["p50_ns"] <= row["p99_ns"] <= row["max_ns"], line
    assert row["engine"] != "caskade" or row["index_ram_bytes"] > 0, line
EOF
else
    echo "bench_smoke: python3 is not there: the JSON is counted, not parsed"
fi

# Nothing is left behind, JSON is appended, and a run without latencies and warming works too.
[ -z "$(ls -A "$dir/stores")" ] || fail "stores are left in $dir/stores"
before=$(wc -l <"$dir/out.jsonl")
"$bench" --engines caskade --workloads readrandom,getmany --num "$num" --no-latency --no-warm \
    --group 7 --dir "$dir/stores" --json "$dir/out.jsonl" >"$dir/plain.txt" || fail "the second run failed"
[ "$(wc -l <"$dir/out.jsonl")" -gt "$before" ] || fail "the second run appended nothing"
expect 2 ' micros/op ' "$dir/plain.txt"
expect 0 ' p50 [0-9]' "$dir/plain.txt"

# What the benchmark itself takes; and that a store which loses everything is found out.
"$bench" --engines none --workloads fillrandom,readmissing --num "$num" --no-warm \
    --dir "$dir/stores" >"$dir/none.txt" || fail "the engine none failed"
expect 2 ' micros/op .* none, 1 thread, round 1$' "$dir/none.txt"
if "$bench" --engines none --workloads readrandom --num "$num" --no-warm --dir "$dir/stores" \
    >/dev/null 2>"$dir/error.txt"; then
    fail "an engine that loses every key passes"
fi
grep -q 'none: key [0-9]* of generation 0 is not there' "$dir/error.txt" ||
    fail "the lost key is not named"
[ -z "$(ls -A "$dir/stores")" ] || fail "a failed run leaves stores in $dir/stores"

# The chart, where gnuplot is there to draw it.
for file in caskade-bench.dat caskade-bench.gp; do
    [ -s "$dir/plot/$file" ] || fail "there is no $file"
done
if command -v gnuplot >/dev/null; then
    [ -s "$dir/plot/caskade-bench.svg" ] || fail "gnuplot drew nothing"
else
    echo "bench_smoke: gnuplot is not there: nothing drawn"
fi

# Errors: a place that cannot be written to, and a wrong option.
if "$bench" --dir /proc/nowhere --num 10 >/dev/null 2>"$dir/error.txt"; then
    fail "a directory that cannot be made is accepted"
fi
grep -q /proc/nowhere "$dir/error.txt" || fail "the error does not name the directory"
status=0
"$bench" --dir "$dir/stores" --engines nosuch 2>"$dir/error.txt" || status=$?
[ "$status" -eq 2 ] || fail "an unknown engine ends with $status, not 2"
echo "bench_smoke: $engines: every line is there"
