# bash completion for caskade. Made by: caskade help --completion

_caskade()
{
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local words=""
    COMPREPLY=()
    if [[ $COMP_CWORD -eq 1 || ($COMP_CWORD -eq 2 && $previous == help) ]]; then
        words="put get del exists scan load dump stat merge verify help version"
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
        return
    fi
    case $previous in
    --format)
        words="tsv lines jsonl lmdb lmdb-print"
        ;;
    --shards)
        words="1 2 4 8 16 32 64 128 256"
        ;;
    --index-memory)
        words="256M 1G 4G"
        ;;
    --segment-bytes)
        words="16M 64M 256M"
        ;;
    --sync)
        words="none interval interval=100ms always"
        ;;
    --write-mode)
        words="mapped syscall"
        ;;
    --read-mode)
        words="mapped pread"
        ;;
    --verify-reads)
        words="on off"
        ;;
    --merge)
        words="on off"
        ;;
    --merge-trigger)
        words="10 20 35 50"
        ;;
    --merge-segment)
        words="20 30 45 60"
        ;;
    --merge-at-once)
        words="1 2 4"
        ;;
    --merge-rate)
        words="10M 50M 200M"
        ;;
    --merge-hours)
        words="0-24 22-6"
        ;;
    esac
    if [[ -n $words ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
        return
    fi
    case ${COMP_WORDS[1]} in
    put)
        words="--expires-in --expires-at --escaped --shards --index-memory --segment-bytes --sync --write-mode --read-mode --verify-reads --merge --merge-trigger --merge-segment --merge-at-once --merge-rate --merge-hours --read-only --verbose --help"
        ;;
    get)
        words="--raw --escaped --shards --index-memory --segment-bytes --sync --write-mode --read-mode --verify-reads --merge --merge-trigger --merge-segment --merge-at-once --merge-rate --merge-hours --read-only --verbose --help"
        ;;
    del)
        words="--escaped --shards --index-memory --segment-bytes --sync --write-mode --read-mode --verify-reads --merge --merge-trigger --merge-segment --merge-at-once --merge-rate --merge-hours --read-only --verbose --help"
        ;;
    exists)
        words="--escaped --shards --index-memory --segment-bytes --sync --write-mode --read-mode --verify-reads --merge --merge-trigger --merge-segment --merge-at-once --merge-rate --merge-hours --read-only --verbose --help"
        ;;
    scan)
        words="--escaped --values --prefix --limit --shards --index-memory --segment-bytes --sync --write-mode --read-mode --verify-reads --merge --merge-trigger --merge-segment --merge-at-once --merge-rate --merge-hours --read-only --verbose --help"
        ;;
    load)
        words="--format --threads --keep-going --report --shards --index-memory --segment-bytes --sync --write-mode --read-mode --verify-reads --merge --merge-trigger --merge-segment --merge-at-once --merge-rate --merge-hours --read-only --verbose --help"
        ;;
    dump)
        words="--format --shards --index-memory --segment-bytes --sync --write-mode --read-mode --verify-reads --merge --merge-trigger --merge-segment --merge-at-once --merge-rate --merge-hours --read-only --verbose --help"
        ;;
    stat)
        words="--json --shards --index-memory --segment-bytes --sync --write-mode --read-mode --verify-reads --merge --merge-trigger --merge-segment --merge-at-once --merge-rate --merge-hours --read-only --verbose --help"
        ;;
    merge)
        words="--shards --index-memory --segment-bytes --sync --write-mode --read-mode --verify-reads --merge --merge-trigger --merge-segment --merge-at-once --merge-rate --merge-hours --read-only --verbose --help"
        ;;
    verify)
        words="--shards --index-memory --segment-bytes --sync --write-mode --read-mode --verify-reads --merge --merge-trigger --merge-segment --merge-at-once --merge-rate --merge-hours --read-only --verbose --help"
        ;;
    help)
        words="--completion --verbose --help"
        ;;
    version)
        words="--verbose --help"
        ;;
    esac
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    else
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
    fi
}

complete -F _caskade caskade
