#!/usr/bin/env bats
# What is shown on a terminal, what bash completes, and what the manual page says.
load helpers

# Some input now, some after a while: enough time for a bar to be drawn.
slow_input() {
    for _ in 1 2 3 4; do
        awk 'BEGIN { for (i = 0; i < 30000; i++) printf "key%d\tvalue value value\n", i }'
        sleep 0.2
    done
}

@test "a terminal sees how far a load is" {
    need script
    export CASKADE
    mkfifo input
    slow_input >input 2>/dev/null 3>&- &
    loader=$!
    # script hands its own standard input on, so the records come by a fifo.
    # shellcheck disable=SC2016
    script -qec '"$CASKADE" load s input --format tsv' typescript </dev/null >/dev/null
    tr '\r' '\n' <typescript | grep -Eq '[0-9.]+MB, [0-9.]+.B/s, [0-9]+ s'
    grep -q 'loaded 120000 records' typescript
}

@test "a pipe sees no progress bar" {
    slow_input | caskade load s - 2>err
    [ "$(wc -l <err)" -eq 1 ]
    run ! grep -q "$(printf '\r')" err
    caskade verify s 2>err >/dev/null
    [ ! -s err ]
    caskade dump s 2>err >/dev/null
    [ ! -s err ]
}

@test "the completion script is the one that the command makes" {
    caskade help --completion | diff - "$here/../../cli/completion/caskade.bash"
}

complete_words() {
    # shellcheck source=/dev/null
    source "$here/../../cli/completion/caskade.bash"
    # shellcheck disable=SC2034
    COMP_WORDS=("$@")
    # shellcheck disable=SC2034
    COMP_CWORD=$(($# - 1))
    _caskade
    printf '%s ' "${COMPREPLY[@]}"
}

@test "bash completes verbs, options and their arguments" {
    [ "$(complete_words caskade sc)" = "scan " ]
    [ "$(complete_words caskade help ver)" = "verify version " ]
    [ "$(complete_words caskade load --k)" = "--keep-going " ]
    [ "$(complete_words caskade get s --k)" = " " ]
    [ "$(complete_words caskade load --format j)" = "jsonl " ]
    [ "$(complete_words caskade put s --write-mode '')" = "mapped syscall " ]
    mkdir store-one
    [ "$(complete_words caskade get sto)" = "store-one " ]
}

@test "the manual page names every verb, option and format, and no option that is not there" {
    page=$here/../../docs/man/caskade.1
    caskade help | sed -n 's/^  \([a-z]*\) .*/\1/p' >verbs
    [ "$(wc -l <verbs)" -gt 5 ]
    while read -r verb; do
        grep -Eq "^\.(It|Nm|Ic).*\b$verb\b" "$page" || { echo "no verb $verb"; return 1; }
        caskade help "$verb" | sed -n 's/^  --\([a-z-]*\).*/\1/p' >>options
    done <verbs
    sort -u options >known
    [ "$(wc -l <known)" -gt 10 ]
    while read -r option; do
        [ "$option" = completion ] && continue
        grep -Eq "Fl -$option\b" "$page" || { echo "no option $option"; return 1; }
    done <known
    grep -Eo 'Fl -[a-z-]+' "$page" | sed 's/Fl -//' | sort -u >named
    [ -z "$(comm -23 named known | grep -vx 'version')" ]
    caskade help load | sed -n '/^Formats/,$s/^  \([a-z-]*\) .*/\1/p' >formats
    while read -r format; do
        grep -Eq "^\.It Cm $format\b" "$page" || { echo "no format $format"; return 1; }
    done <formats
}

@test "the manual page is sound mdoc" {
    need mandoc
    mandoc -T lint -W warning "$here/../../docs/man/caskade.1"
}
