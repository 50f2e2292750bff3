#!/bin/sh
# bench/load_compare.sh, run small: sh tests/bench_load_smoke.sh LOAD_COMPARE CASKADE FOLDER
# Every load must be reported, and a generator that repeats a key refused. Ends with 77 (skipped)
# where Tkrzw's command is missing.
set -eu
script=$1
caskade=$2
dir=$3

fail() {
    echo "bench_load_smoke: $1" >&2
    exit 1
}
for tool in tkrzw_dbm_util python3; do
    if ! command -v "$tool" >/dev/null; then
        echo "bench_load_smoke: $tool is not installed: skipped"
        exit 77
    fi
done

rm -rf "$dir"
mkdir -p "$dir/work"
cat >"$dir/generate.py" <<'EOF'
import sys
for i in range(int(sys.argv[1])):
    print("key-%x\tn: the %d. of them" % (i * 2654435761 % 2**32, i))
EOF
sh "$script" -n 3000 -r 2 -d "$dir/work" -c "$caskade" "$dir/generate.py" >"$dir/out.txt" ||
    fail "the run failed"
for order in given sorted shuffled; do
    for tool in caskade tkrzw; do
        found=$(grep -c "^round [12]  $order  *$tool  *[0-9]* ms\$" "$dir/out.txt" || true)
        [ "$found" -eq 2 ] || fail "$found loads of $order by $tool are reported, not 2"
    done
    grep -Eq "^$order +[0-9.]+ +[0-9.]+ +[0-9.]+ \([0-9.]+ to [0-9.]+\)\$" "$dir/out.txt" ||
        fail "there is no ratio of $order"
done

cat >"$dir/generate.py" <<'EOF'
import sys
print("a\tb\n" * int(sys.argv[1]), end="")
EOF
if sh "$script" -n 10 -r 1 -d "$dir/work" -c "$caskade" "$dir/generate.py" >"$dir/out.txt" 2>&1; then
    fail "a generator that repeats a key is accepted"
fi
grep -q '1 distinct keys, not 10' "$dir/out.txt" || fail "the repeated key is not the reason given"
[ -z "$(ls -A "$dir/work")" ] || fail "files are left in $dir/work"
echo "bench_load_smoke: every load is there"
