#!/bin/sh
# Runs one fuzz entry: sh tests/fuzz/run.sh PROGRAM CORPUS FOUND
# CORPUS is read and never written; new inputs and crashes go to FOUND, which the next run reuses.
set -eu
program=$1
corpus=$2
found=$3
mkdir -p "$found/corpus"
set -- "$found/corpus"
if [ -d "$corpus" ]; then
    set -- "$@" "$corpus"
fi
exec "$program" -max_total_time="${CASKADE_FUZZ_SECONDS:-5}" -timeout=10 -rss_limit_mb=2048 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix="$found/" "$@"
