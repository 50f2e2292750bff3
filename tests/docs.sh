#!/bin/sh
# The documents against what they describe: sh tests/docs.sh ROOT
#
#  1. The README's C example is tests/readme_example.c, letter for letter.
#  2. caskade.3 names every public function and every status of caskade.h, and nothing else that
#     starts with cask_.
#     Nor is an option or a figure of caskade.h missing there.
#  3. The newest version in CHANGELOG.md is that of caskade.h.
#  4. Every relative link of a document leads to a file.
#  5. mandoc finds nothing wrong with the man pages, where it is installed.
set -eu
cd "$1"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

problem() {
    printf '%s\n' "$*" >&2
    failures=$((failures + 1))
}

# 1
awk '/^```c$/ { inside = 1; next } /^```$/ { inside = 0 } inside' README.md >"$folder/example"
if ! diff -u tests/readme_example.c "$folder/example" >&2; then
    problem "README.md: the C example is not tests/readme_example.c"
fi

# 2
header=include/caskade.h
page=docs/man/caskade.3
grep -o '\bcask_[a-z_]*(' $header | tr -d '(' | sort -u >"$folder/functions"
grep -oE '^ +CASK_(OK|NOTFOUND|E[A-Z]+) = ' $header | grep -o 'CASK_[A-Z]*' >"$folder/statuses"
if [ ! -s "$folder/functions" ] || [ ! -s "$folder/statuses" ]; then
    problem "$header: found no functions or no statuses"
fi
while read -r name; do
    grep -q "^\.F[no] $name\\b" $page || problem "$page: no prototype of $name"
    grep -q "^\.It Fn $name\\b" $page || problem "$page: no description of $name"
done <"$folder/functions"
while read -r name; do
    grep -q "^\.It Dv $name\\b" $page || problem "$page: nothing about $name"
done <"$folder/statuses"
for struct in cask_options cask_stats; do
    awk -v head="^struct $struct {" '$0 ~ head { inside = 1 } /^}/ { inside = 0 } inside' $header |
        tr '\n' ' ' | sed 's,/\*[^*]*\*/,,g' | grep -oE '[a-z_]+;' | tr -d ';' >"$folder/fields"
    [ -s "$folder/fields" ] || problem "$header: found no fields of $struct"
    while read -r name; do
        grep -qE "^\.(It )?Fa (.* )?$name\b" $page || problem "$page: nothing about $name"
    done <"$folder/fields"
done
grep -o '\bcask_[a-z_]*\b' $page | sort -u >"$folder/mentioned"
while read -r name; do
    grep -q "\\b$name\\b" $header || problem "$page: $name is not in $header"
done <"$folder/mentioned"

# 3
version=$(sed -n 's/^#define CASK_VERSION_STRING "\(.*\)"/\1/p' $header)
newest=$(sed -n 's/^## \[\([0-9.]*\)\].*/\1/p' CHANGELOG.md | head -n 1)
if [ "$version" != "$newest" ]; then
    problem "CHANGELOG.md: newest version is '$newest', caskade.h has '$version'"
fi

# 4
for document in *.md docs/*.md; do
    [ -f "$document" ] || continue
    grep -o '](\([^)#]*\)' "$document" | sed 's/^](//' >"$folder/links" || true
    while read -r link; do
        case $link in
        http:* | https:* | mailto:*) ;;
        *)
            [ -e "$(dirname "$document")/$link" ] || problem "$document: $link does not exist"
            ;;
        esac
    done <"$folder/links"
done

# 5
if command -v mandoc >/dev/null; then
    for page in docs/man/*.[0-9]; do
        mandoc -T lint -W warning "$page" >&2 || problem "$page: mandoc complains"
    done
else
    echo "docs: mandoc is not installed; man pages not checked"
fi

if [ "$failures" -gt 0 ]; then
    exit 1
fi
echo "docs: README, CHANGELOG, man pages and links are fine"
