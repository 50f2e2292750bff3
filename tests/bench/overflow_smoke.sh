#!/bin/sh
# The workload overflow of caskade-bench, run small:
#     sh tests/bench/overflow_smoke.sh CASKADE_BENCH FOLDER [ENGINES]
# With 1 MiB of index memory 60,000 keys in two shards are enough to spill. Values read back are
# checked by the program itself. Nothing here looks at a time. What needs a control group must be
# there as a number or, where none can be made, as null.
set -eu
bench=$1
dir=$2
num=60000

fail() {
    echo "overflow_smoke: $1" >&2
    exit 1
}
rm -rf "$dir"
mkdir -p "$dir"
built=$("$bench" --help | sed -n '/^Engines:/,/^Workloads:/p' |
    awk '/^  / && $1 != "none" && !/not found when this was built/ { print $1 }' | paste -s -d , -)
engines=${3:-$built}

# run NAME OPTION...: the workload on the engines, its output and JSON under that name
run() {
    name=$1
    shift
    "$bench" --workloads overflow --num "$num" --value-size 24 --index-memory 1048576 --shards 2 \
        --step 20000 --ram-num 20000 --reads 5000 --cold-reads 1000 --sorted-puts 3000 --no-warm \
        --dir "$dir/stores" --json "$dir/$name.jsonl" "$@" >"$dir/$name.txt" 2>"$dir/$name.err" ||
        { cat "$dir/$name.err" >&2 && fail "the run '$name' failed"; }
    [ -z "$(ls -A "$dir/stores")" ] || fail "stores are left in $dir/stores"
}
# The limit has to hold an engine's own memory; sanitizers take more of it.
run all --engines "$engines" --cgroup-bytes 536870912
run plain --engines caskade --cgroup-bytes 0
run ingest --engines caskade --cgroup-bytes 536870912 --cgroup-ingest

if ! command -v python3 >/dev/null; then
    echo "overflow_smoke: python3 is not there: figures not looked at"
    exit 0
fi
python3 - "$dir" "$engines" "$num" <<'EOF'
import json, sys
dir, engines, num = sys.argv[1], sys.argv[2].split(","), int(sys.argv[3])

def rows(name):
    return [json.loads(line) for line in open(f"{dir}/{name}.jsonl")]

def check(row, limited):
    figures = row["figures"]
    assert row["ops"] == num and figures["keys"] == num, row
    for step in row["steps"]:
        assert len(step) == len(row["step_columns"]), step
    assert [step[0] for step in row["steps"]] == [20000, 40000, 60000], row["steps"]
    for name in "ingest_ns", "longest_put_ms", "open_killed_seconds", "warm_get_ns", \
            "warm_miss_ns", "warm_many16_ns", "anon_max_mib", "disk_per_key":
        assert figures[name] > 0, (name, row)
    for name in "get", "miss", "many16", "many64":
        assert (figures[f"cold_{name}_ns"] is not None) == limited, (name, row)
        pages = figures[f"cold_{name}_pages"]
        assert pages is None or pages >= 0, (name, row)
    if row["engine"] != "caskade":
        assert figures["ram_put_ns"] is None and "runs" not in figures, row
        return
    assert figures["ram_put_ns"] > 0 and figures["ram_get_ns"] > 0, row
    assert figures["runs"] > 0 and figures["flushes"] > 0 and figures["spilled_keys"] > 0, row
    assert figures["index_failures"] == 0, row
    assert 8 < figures["index_disk_per_key"] < 30, row
    assert figures["index_ram_max_mib"] <= 1, row

results = {row["engine"]: row for row in rows("all") if "round" in row}
assert sorted(results) == sorted(engines), results.keys()
error = open(f"{dir}/all.err").read()
limited = "left out" not in error
for row in results.values():
    check(row, limited)
(plain,) = [row for row in rows("plain") if "round" in row]
check(plain, False)
(ingest,) = [row for row in rows("ingest") if "round" in row]
check(ingest, limited)
for peer in set(engines) - {"caskade"}:
    ratios = [row for row in rows("all") if row.get("to", {}).get("engine") == peer]
    assert any("figure" not in row["ratio_of"] for row in ratios), peer
    assert any(row["ratio_of"].get("figure") == "warm_get_ns" for row in ratios), peer
if not limited:
    print("overflow_smoke: no control group can be made here: gets under a limit not tested")
EOF

# A peer that is stopped is read over the keys it reached.
case ,$engines, in
*,lmdb,*)
    num=100000000
    run stopped --engines lmdb --peer-seconds 1 --step 100000000 --cgroup-bytes 0
    python3 - "$dir/stopped.jsonl" <<'EOF'
import json, sys
row = json.loads(open(sys.argv[1]).readline())
assert 0 < row["figures"]["keys"] < 100000000 and row["figures"]["warm_get_ns"] > 0, row
EOF
    ;;
esac
echo "overflow_smoke: $engines: everything is there"
