#!/bin/sh
# The checkers of the tree, checked: every rule of layers.cmake and style.sh is broken once, in a
# small tree made for it, and the checker has to say so. sh tests/tree_checks.sh CMAKE FOLDER
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cmake=$1
tree=$2
failures=0

# A tree that breaks no rule.
make_tree() {
    rm -rf "$tree"
    mkdir -p "$tree/include" "$tree/cli"
    for layer in base io log index shard merge store; do
        mkdir -p "$tree/src/$layer"
        echo "/* $layer */" >"$tree/src/$layer/$layer.h"
    done
    echo '/* public */' >"$tree/include/caskade.h"
    printf '/* status */\n#include "caskade.h"\n' >"$tree/src/base/status.h"
    printf '/* posix */\n#include <fcntl.h>\n#include "io/io.h"\n' >"$tree/src/io/posix.c"
    printf '/* pages */\n#include <sys/mman.h>\n' >"$tree/src/base/pages.c"
    printf '/* record */\n#include "base/base.h"\n#include "log.h"\n' >"$tree/src/log/record.c"
    printf '/* run */\n#include <lmdb.h>\n#include "log/log.h"\n' >"$tree/src/index/container_lmdb.c"
    printf '/* api */\n#include "caskade.h"\n#include "merge/merge.h"\n' >"$tree/src/store/api.c"
    printf '/* cli */\n#include "caskade.h"\n\n' >"$tree/cli/main.c"
    {
        printf 'int main(void)\n{\n'
        seq 67 | sed 's/.*/    f();/'
        printf '}\n'
    } >>"$tree/cli/main.c"
}

run_layers() {
    "$cmake" "-DROOT=$tree" -P "$here/layers.cmake" 2>&1
}

run_style() {
    sh "$here/style.sh" "$tree" 2>&1
}

# expect CHECKER FILE TEXT: with TEXT (printf's escapes) added to FILE, the checker has to fail and
# to name the file.
expect() {
    make_tree
    mkdir -p "$(dirname "$tree/$2")"
    # shellcheck disable=SC2059
    printf "$3\n" >>"$tree/$2"
    if output=$("run_$1"); then
        printf '%s says nothing about %s: %s\n' "$1" "$2" "$3" >&2
        failures=$((failures + 1))
    elif ! printf '%s' "$output" | grep -qF "$2"; then
        printf '%s does not name %s but says: %s\n' "$1" "$2" "$output" >&2
        failures=$((failures + 1))
    fi
}

make_tree
run_layers >/dev/null
run_style >/dev/null

expect layers src/base/base.h '#include "io/io.h"'
expect layers src/io/io.h '#include "log/log.h"'
expect layers src/log/log.h '#include "index/index.h"'
expect layers src/index/index.h '#include "shard/shard.h"'
expect layers src/shard/shard.h '#include "merge/merge.h"'
expect layers src/merge/merge.h '#include "store/store.h"'
expect layers src/merge/merge.h '#  include "store/store.h"'
expect layers src/store/store.h '#include "nowhere/else.h"'
expect layers src/store/store.h '#include "missing.h"'
expect layers src/other/file.c 'int x;'
expect layers src/loose.c 'int x;'
expect layers src/store/store.h '#include <unistd.h>'
expect layers src/io/io.h '#include <fcntl.h>'
expect layers src/log/log.h '#include <sys/mman.h>'
expect layers src/base/pages.c '#include <fcntl.h>'
expect layers src/base/base.h '#include <sys/mman.h>'
expect layers src/index/index.h '#include <lmdb.h>'
expect layers src/store/store.h '#include "lmdb.h"'
expect layers src/log/log.h '#include "caskade.h"'
expect layers src/base/base.h '#include <caskade.h>'
expect layers src/log/record.c '#include "io/io.h"'
expect layers src/merge/plan.c '#include "io/io.h"'
expect layers cli/main.c '#include "store/store.h"'

expect style cli/main.c '\tint x;'
expect style src/log/log.h 'int x; '
expect style src/log/log.h "$(seq -s, 40)"
expect style src/log/log.h 'typedef struct x y;'
expect style src/log/new.c 'int x;'
expect style src/log/new.h 'int x;'
expect style src/log/log.h "$(seq 701 | sed 's/.*/\/\//')"
expect style src/log/log.h "\nstatic int f(int a,\n    int b)\n{\n$(seq 67 | sed 's/.*/    f();/')\n}"

rm -rf "$tree"
if [ "$failures" -gt 0 ]; then
    exit 1
fi
echo "tree_checks: every broken rule was found"
