#include "verbs.h"

#include <string.h>

const struct verb verbs[] = {
    {.name = "put",
     .operands = "DIR KEY VALUE|-",
     .summary = "Store VALUE, or what standard input holds, under KEY",
     .details = "Creates the store where there is none.",
     .operands_min = 3,
     .operands_max = 3,
     .options = OPTIONS_OPEN | OPTIONS_KEY | OPTIONS_PUT,
     .create = CASK_CREATE_IF_MISSING,
     .run = verb_put},
    {.name = "get",
     .operands = "DIR KEY",
     .summary = "Print the value of KEY and a newline",
     .details = "Exit code 1 if there is no such key.",
     .operands_min = 2,
     .operands_max = 2,
     .options = OPTIONS_OPEN | OPTIONS_KEY | OPTIONS_GET,
     .read_only = true,
     .run = verb_get},
    {.name = "del",
     .operands = "DIR KEY",
     .summary = "Remove KEY",
     .details = "Exit code 1 if there is no such key.",
     .operands_min = 2,
     .operands_max = 2,
     .options = OPTIONS_OPEN | OPTIONS_KEY,
     .create = CASK_CREATE_NEVER,
     .run = verb_del},
    {.name = "exists",
     .operands = "DIR KEY",
     .summary = "Tell by the exit code, 0 or 1, whether KEY is there",
     .operands_min = 2,
     .operands_max = 2,
     .options = OPTIONS_OPEN | OPTIONS_KEY,
     .read_only = true,
     .run = verb_exists},
    {.name = "scan",
     .operands = "DIR",
     .summary = "Print all keys, one a line, in no particular order",
     .details = "TAB, line feed, carriage return and backslash are printed as \\t \\n \\r \\\\.",
     .operands_min = 1,
     .operands_max = 1,
     .options = OPTIONS_OPEN | OPTIONS_KEY | OPTIONS_SCAN,
     .read_only = true,
     .run = verb_scan},
    {.name = "load",
     .operands = "DIR [FILE|-]",
     .summary = "Store every record of FILE or of standard input",
     .details = "Creates the store where there is none. Of several records of one key the last\n"
                "wins. The format goes by --format, else by FILE's ending (.tsv; .txt .words for\n"
                "lines; .jsonl .ndjson; .lmdb .dump .mdbdump; each also with .zst behind);\n"
                "standard input is tsv. A bad line stops the load: everything before it is\n"
                "loaded, nothing behind it, and the exit code is 6.",
     .operands_min = 1,
     .operands_max = 2,
     .options = OPTIONS_OPEN | OPTIONS_FORMAT | OPTIONS_LOAD,
     .create = CASK_CREATE_IF_MISSING,
     .run = verb_load},
    {.name = "dump",
     .operands = "DIR [FILE|-]",
     .summary = "Write every record to FILE or to standard output",
     .details = "In no particular order. The format goes by --format, else by FILE's ending as\n"
                "with load; standard output is tsv.",
     .operands_min = 1,
     .operands_max = 2,
     .options = OPTIONS_OPEN | OPTIONS_FORMAT,
     .read_only = true,
     .run = verb_dump},
    {.name = "stat",
     .operands = "DIR",
     .summary = "Print figures of the store",
     .details = "With --json as one object, in which per_shard lists the shards. Counts of reads,\n"
                "writes and merges begin when a store is opened, here by this very command.",
     .operands_min = 1,
     .operands_max = 1,
     .options = OPTIONS_OPEN | OPTIONS_STAT,
     .read_only = true,
     .run = verb_stat},
    {.name = "merge",
     .operands = "DIR",
     .summary = "Reclaim the space of records replaced, deleted or expired",
     .details = "Rewrites every segment that holds such records, whatever the merge options say.\n"
                "Background merging is off meanwhile unless --merge on is given. Ctrl-C stops it:\n"
                "what was merged by then stays merged, and the exit code is 3.",
     .operands_min = 1,
     .operands_max = 1,
     .options = OPTIONS_OPEN,
     .create = CASK_CREATE_NEVER,
     .run = verb_merge},
    {.name = "verify",
     .operands = "DIR",
     .summary = "Read every byte of the store and check it",
     .details = "Prints ok, or one line for each problem; the exit code is 4 then.",
     .operands_min = 1,
     .operands_max = 1,
     .options = OPTIONS_OPEN,
     .read_only = true,
     .run = verb_verify},
    {.name = "help",
     .operands = "[VERB]",
     .summary = "Explain VERB, or name them all",
     .operands_min = 0,
     .operands_max = 1,
     .options = OPTIONS_COMPLETION,
     .run = verb_help},
    {.name = "version",
     .operands = "",
     .summary = "Print the version",
     .operands_min = 0,
     .operands_max = 0,
     .run = verb_version},
    {.name = NULL},
};

const struct verb *verb_by_name(const char *name)
{
    for (const struct verb *verb = verbs; verb->name != NULL; verb++) {
        if (strcmp(verb->name, name) == 0) {
            return verb;
        }
    }
    return NULL;
}

bool verb_takes(const struct verb *verb, const struct option_row *option)
{
    return ((verb->options | OPTIONS_ALL) & option->groups) != 0;
}
