#!/bin/sh
# Runs a command on one processor: sh on_one.sh FOLDER COMMAND [ARGUMENT]...
#
# Each of several at once has another one, by locks in the folder; where none is left, or taskset or
# flock is missing, the command runs on all. (ctest's PROCESSOR_AFFINITY does nothing with the libuv
# of most distributions.)
set -eu
folder=$1
shift
if command -v taskset >/dev/null && command -v flock >/dev/null; then
    processor=0
    while taskset -c $processor true 2>/dev/null; do
        exec 9>"$folder/processor-$processor.lock"
        if flock -n 9; then
            exec taskset -c $processor "$@"
        fi
        processor=$((processor + 1))
    done
    exec 9>&-
fi
exec "$@"
