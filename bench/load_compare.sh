#!/bin/sh
# Bulk loading compared: `caskade load` beside `tkrzw_dbm_util import --tsv`, each command as a user
# would type it, on the same generated file in three orders.
#
#   sh bench/load_compare.sh [-n RECORDS] [-r ROUNDS] [-d DIR] [-c CASKADE] [GENERATE.PY]
#
#   -n  records; default 3000000 (370 MB)
#   -r  rounds, the outer loop, so that the two are compared in the same minutes; default 5
#   -d  where the files and stores go, in a folder that is removed again; default ${TMPDIR:-/tmp}
#   -c  the caskade command; default: the one in PATH
# GENERATE.PY writes N records as TSV; default $CASKADE_SHARED_DATA/generate.py, and without that
# ../shared/data/generate.py beside the tree.
#
# Tkrzw is given twice as many buckets as records (an import on its own makes about a million),
# and both stores are counted afterwards. Times are of the whole command, by the wall clock.
set -eu

records=3000000
rounds=5
dir=${TMPDIR:-/tmp}
caskade=caskade
usage() {
    sed -n '5,12s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
while getopts n:r:d:c: option; do
    case $option in
    n) records=$OPTARG ;;
    r) rounds=$OPTARG ;;
    d) dir=$OPTARG ;;
    c) caskade=$OPTARG ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -le 1 ] || usage
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
generate=${1:-${CASKADE_SHARED_DATA:-$root/../shared/data}/generate.py}

fail() {
    echo "load_compare: $1" >&2
    exit 1
}
command -v "$caskade" >/dev/null || fail "there is no command $caskade (option -c names it)"
command -v tkrzw_dbm_util >/dev/null || fail "tkrzw_dbm_util is missing: install tkrzw-utils"
command -v python3 >/dev/null || fail "python3 is missing"
[ -f "$generate" ] || fail "there is no $generate"

work=$(mktemp -d "$dir/load_compare.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

echo "making $records records in three orders ..." >&2
python3 "$generate" "$records" >"$work/given.tsv"
LC_ALL=C sort -S 1G -T "$work" "$work/given.tsv" >"$work/sorted.tsv"
shuf --random-source="$work/given.tsv" "$work/given.tsv" >"$work/shuffled.tsv"
# No key twice: both stores have to end up with as many records as there are lines.
distinct=$(cut -f 1 "$work/sorted.tsv" | LC_ALL=C sort -u -S 1G -T "$work" | wc -l)
[ "$distinct" -eq "$records" ] || fail "$generate made $distinct distinct keys, not $records"
megabytes=$(($(wc -c <"$work/given.tsv") / 1000000))

now_ms() {
    echo $(($(date +%s%N) / 1000000))
}

# Memory a virtual machine has freed goes back to its host, and touching it anew is slow: whoever
# runs next finds it warm, the input in memory and nothing of others left to be written.
warm() {
    head -c "$((megabytes * 2000000))" /dev/zero >"$work/warm"
    rm -f "$work/warm"
    cat "$1" >/dev/null
    sync -f "$work"
}

# Each sets $found to the number of records in the store.
run_caskade() {
    "$caskade" load "$work/caskade" "$1" >"$work/log" 2>&1
}
count_caskade() {
    found=$("$caskade" stat "$work/caskade" --json |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["live_keys"])')
}
run_tkrzw() {
    tkrzw_dbm_util create --dbm hash --buckets "$((records * 2))" "$work/tkrzw.tkh" >"$work/log" &&
        tkrzw_dbm_util import --dbm hash --tsv "$work/tkrzw.tkh" "$1" >"$work/log"
}
count_tkrzw() {
    found=$(tkrzw_dbm_util inspect "$work/tkrzw.tkh" | sed -n 's/^Number of Records: //p')
}

# load TOOL ORDER ROUND: prints and notes the milliseconds.
load() {
    rm -rf "$work/caskade" "$work/tkrzw.tkh"
    warm "$work/$2.tsv"
    start=$(now_ms)
    "run_$1" "$work/$2.tsv" || {
        cat "$work/log" >&2
        fail "$1 failed on $2.tsv"
    }
    took=$(($(now_ms) - start))
    "count_$1"
    [ "$found" = "$records" ] || fail "$1 has '$found' records of $records after loading $2.tsv"
    echo "$took" >>"$work/$1.$2"
    printf 'round %s  %-8s  %-8s  %6s ms\n' "$3" "$2" "$1" "$took"
}

median() {
    sort -n "$1" | awk '{ v[NR] = $1 } END {
        print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

round=1
while [ "$round" -le "$rounds" ]; do
    for order in given sorted shuffled; do
        load tkrzw "$order" "$round"
        load caskade "$order" "$round"
    done
    round=$((round + 1))
done

# The ratio is the median of the rounds' ratios: the two of a round ran side by side.
printf '\n%s records, %s MB of TSV, medians of %s rounds\n' "$records" "$megabytes" "$rounds"
printf '%-10s %12s %12s   %s\n' order 'caskade ms' 'tkrzw ms' 'caskade is so many times as fast'
for order in given sorted shuffled; do
    paste "$work/tkrzw.$order" "$work/caskade.$order" |
        awk '{ printf "%.4f\n", $1 / $2 }' | sort -n >"$work/ratios"
    printf '%-10s %12s %12s   %.2f (%.2f to %.2f)\n' "$order" "$(median "$work/caskade.$order")" \
        "$(median "$work/tkrzw.$order")" "$(median "$work/ratios")" \
        "$(head -n 1 "$work/ratios")" "$(tail -n 1 "$work/ratios")"
done
