/* The table of verbs, and the table of options: parsing, --help and the bash completion are all
 * made from these two. A new verb is one row in verbs.c and one function. */
#ifndef CASKADE_CLI_VERBS_H
#define CASKADE_CLI_VERBS_H

#include "format/format.h"

#include <caskade.h>
#include <stdbool.h>
#include <stdint.h>

/* Groups of options. A verb takes some groups, an option belongs to some. */
enum option_group {
    OPTIONS_ALL = 1 << 0,  /* every verb */
    OPTIONS_OPEN = 1 << 1, /* how to open a store */
    OPTIONS_KEY = 1 << 2,  /* bytes on the command line */
    OPTIONS_PUT = 1 << 3,
    OPTIONS_GET = 1 << 4,
    OPTIONS_SCAN = 1 << 5,
    OPTIONS_FORMAT = 1 << 6,
    OPTIONS_LOAD = 1 << 7,
    OPTIONS_STAT = 1 << 8,
    OPTIONS_COMPLETION = 1 << 9
};

#define OPERANDS_MAX 3

/* A command line, understood. */
struct args {
    const struct verb *verb;
    const char *operands[OPERANDS_MAX]; /* NULL behind the last */
    struct cask_options open;
    bool help;
    bool raw;
    bool escaped;
    bool values;
    bool json;
    bool keep_going;
    bool report;
    bool completion;
    uint64_t expires_at_ms; /* 0: never */
    uint64_t limit;
    const char *prefix;
    const struct format *format; /* NULL: by the file's ending */
    unsigned threads;            /* 0: one per core */
};

struct verb {
    const char *name;
    const char *operands; /* for the usage line */
    const char *summary;  /* one line */
    const char *details;  /* for help VERB; may be NULL */
    int operands_min;
    int operands_max;
    unsigned options; /* groups, OPTIONS_ALL not named */
    bool read_only;   /* looks and changes nothing */
    enum cask_create_mode create;
    int (*run)(const struct args *args); /* returns the exit code */
};

struct option_row {
    const char *name;
    const char *argument; /* NULL: takes none */
    const char *words;    /* for completion: what the argument may be, or NULL */
    const char *summary;
    unsigned groups;
    /* NULL, or what is wrong with value (NULL for an option without argument). */
    const char *(*set)(struct args *args, const char *value);
};

/* Both end with a row without a name. */
extern const struct verb verbs[];
extern const struct option_row options[];

const struct verb *verb_by_name(const char *name);
bool verb_takes(const struct verb *verb, const struct option_row *option);

/* Understands what follows the verb (argv[0]). EXIT_DONE, or EXIT_USAGE after saying why. */
int args_parse(const struct verb *verb, int argc, char **argv, struct args *ret_args);

/* The text of --help for a verb, or for the whole command with NULL; and the bash completion. */
int help_print(const struct verb *verb);
int help_print_completion(void);

/* What the verbs do. */
int verb_put(const struct args *args);
int verb_get(const struct args *args);
int verb_del(const struct args *args);
int verb_exists(const struct args *args);
int verb_scan(const struct args *args);
int verb_dump(const struct args *args);
int verb_load(const struct args *args);
int verb_stat(const struct args *args);
int verb_merge(const struct args *args);
int verb_verify(const struct args *args);
int verb_help(const struct args *args);
int verb_version(const struct args *args);

#endif
