#!/bin/sh
# Installs a release build into an empty prefix and uses it as somebody else would.
# sh tests/install/run.sh ROOT FOLDER CMAKE GENERATOR CC
#
#  1. Everything that ought to be there is there, and nothing but cask_* is visible.
#  2. find_package(caskade): programs in C and C++, with the shared and the static library.
#  3. pkg-config: the same.
#  4. The tree may be moved: a staged installation (DESTDIR) holds the same files.
set -eu
root=$1
work=$2
cmake=$3
generator=$4
cc=$5
prefix=$work/prefix
here=$root/tests/install

fail() {
    echo "install: $*" >&2
    exit 1
}

# What a program finds: it must run and say so.
run() {
    rm -rf "$work/store"
    "$@" "$work/store" || fail "$1 failed"
}

visible() {
    nm "$@" --defined-only | awk 'NF == 3 && $2 != "A" { print $3 }' | sed 's/@.*//' | sort -u
}

rm -rf "$prefix" "$work/consumer" "$work/staged"
mkdir -p "$work"
echo "== build and install"
"$cmake" -S "$root" -B "$work/build" -G "$generator" -DCMAKE_C_COMPILER="$cc" \
    -DCMAKE_BUILD_TYPE=Release -DCASKADE_WERROR=ON -DCASKADE_BUILD_TESTS=OFF \
    -DCASKADE_BUILD_BENCH=OFF >"$work/configure.log" || fail "configure: $work/configure.log"
"$cmake" --build "$work/build" >"$work/build.log" 2>&1 || {
    tail -n 30 "$work/build.log" >&2
    fail "build"
}
"$cmake" --install "$work/build" --prefix "$prefix" >"$work/install.log" || fail "install"

echo "== files"
libdir=$(dirname "$(find "$prefix" -name libcaskade.a)")
for file in include/caskade.h bin/caskade share/man/man1/caskade.1 share/man/man3/caskade.3 \
    share/man/man3/cask_open.3 share/bash-completion/completions/caskade; do
    [ -s "$prefix/$file" ] || fail "$file is missing"
done
for file in libcaskade.a libcaskade.so libcaskade.so.0 pkgconfig/caskade.pc \
    cmake/caskade/caskade-config.cmake cmake/caskade/FindLMDB.cmake; do
    [ -s "$libdir/$file" ] || fail "$libdir/$file is missing"
done
soname=$(readelf -d "$libdir/libcaskade.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
[ "$soname" = libcaskade.so.0 ] || fail "soname is '$soname'"
"$prefix/bin/caskade" --version || fail "the command does not run"
bash -n "$prefix/share/bash-completion/completions/caskade" || fail "completion: bad syntax"

echo "== visible symbols"
grep -o '\bcask_[a-z_]*(' "$prefix/include/caskade.h" | tr -d '(' | sort -u >"$work/declared"
visible -D "$libdir/libcaskade.so" >"$work/shared"
visible -g "$libdir/libcaskade.a" >"$work/static"
for kind in shared static; do
    diff "$work/declared" "$work/$kind" >&2 ||
        fail "the $kind library shows other symbols than caskade.h declares"
done

echo "== find_package"
"$cmake" -S "$here" -B "$work/consumer" -G "$generator" -DCMAKE_C_COMPILER="$cc" \
    -DCMAKE_PREFIX_PATH="$prefix" >"$work/consumer.log" || fail "find_package"
"$cmake" --build "$work/consumer" >"$work/consumer-build.log" 2>&1 || {
    cat "$work/consumer-build.log" >&2
    fail "the consumer's build"
}
for program in c_caskade c_caskade_static cxx_caskade cxx_caskade_static; do
    run "$work/consumer/$program"
done

echo "== pkg-config"
if command -v pkg-config >/dev/null; then
    PKG_CONFIG_PATH=$libdir/pkgconfig
    export PKG_CONFIG_PATH
    [ "$(pkg-config --variable=prefix caskade)" = "$prefix" ] || fail "caskade.pc: prefix"
    [ "$(pkg-config --modversion caskade)" = \
        "$("$prefix/bin/caskade" --version | grep -o '[0-9.]*' | head -n 1)" ] ||
        fail "caskade.pc: version"
    # Flags are meant to be split into words.
    # shellcheck disable=SC2046
    {
        "$cc" -o "$work/pc_shared" "$here/consumer.c" $(pkg-config --cflags --libs caskade) \
            "-Wl,-rpath,$libdir"
        "$cc" -static -o "$work/pc_static" "$here/consumer.c" \
            $(pkg-config --static --cflags --libs caskade)
    }
    run "$work/pc_shared"
    run "$work/pc_static"
else
    echo "install: pkg-config is not installed; not tried"
fi

echo "== staged installation"
DESTDIR=$work/staged "$cmake" --install "$work/build" --prefix /usr >>"$work/install.log"
(cd "$prefix" && find . -type f -o -type l | sort) >"$work/files"
(cd "$work/staged/usr" && find . -type f -o -type l | sort) >"$work/staged-files"
diff "$work/files" "$work/staged-files" >&2 || fail "DESTDIR installs other files"
grep -q '^prefix=/usr$' "$(find "$work/staged" -name caskade.pc)" || fail "staged caskade.pc: prefix"
echo "install: fine"
