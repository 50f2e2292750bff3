#!/bin/sh
# The shape of the sources: sh tests/style.sh ROOT
#
#  1. In src/ and cli/, no function is over 70 lines and no file over 700.
#  2. Every .h there opens with a comment that says what it is for, and so does every .c without a
#     header of its own.
#  3. No tab, no blank at a line's end, no line over 100 columns, no typedef of a struct, in any
#     C file of the tree.
set -eu
cd "$1"

c_files() {
    for folder in "$@"; do
        if [ -d "$folder" ]; then
            find "$folder" -name '*.[ch]' -type f
        fi
    done | sort
}

# Functions start at column 0 with their type and end at a "}" in column 0.
# shellcheck disable=SC2016
shape='
    FNR == 1 { commented[FILENAME] = /^\/\*/; start = 0 }
    FNR == 1 && !/^\/\*/ { bare[FILENAME] = 1 }
    FNR == 701 { print FILENAME ":701: the file is over 700 lines" }
    /^[A-Za-z_].*\(/ && !/;[[:space:]]*$/ { start = FNR; name = $0 }
    /^}$/ && start > 0 {
        lines = FNR - start + 1
        if (lines > 70)
            print FILENAME ":" start ": " lines " lines in one function: " name
        start = 0
    }
    /^}.*;/ { start = 0 }
    END {
        for (file in bare) {
            header = file
            sub(/\.c$/, ".h", header)
            if (!commented[header])
                print file ":1: no comment at the top, nor in a header of the same name"
        }
    }
'
# shellcheck disable=SC2016
looks='
    /\t/ { print FILENAME ":" FNR ": a tab" }
    /[[:space:]]$/ { print FILENAME ":" FNR ": blanks at the end" }
    length($0) > 100 && length($0) - extra($0) > 100 { print FILENAME ":" FNR ": over 100 columns" }
    /typedef[[:space:]]+struct/ { print FILENAME ":" FNR ": typedef of a struct" }
    # Bytes of multibyte characters beyond their first; mawk counts bytes.
    function extra(line) { return gsub(/[\200-\277]/, "", line) }
'
files=$(c_files src cli)
if [ -z "$files" ]; then
    echo "no sources under $1" >&2
    exit 1
fi
problems=$(
    # File names in this tree have no blanks.
    # shellcheck disable=SC2046
    LC_ALL=C awk "$shape" $(c_files src cli)
    # shellcheck disable=SC2046
    LC_ALL=C awk "$looks" $(c_files include src cli bench tests)
)
if [ -n "$problems" ]; then
    printf '%s\n' "$problems" >&2
    exit 1
fi
echo "style: $(printf '%s\n' "$files" | wc -l) files of src/ and cli/ are fine"
