/* From argv to struct args, by the two tables. */
#include "verbs.h"

#include "report.h"

#include <getopt.h>
#include <string.h>

#define OPTIONS_MAX 64
#define FIRST_CODE 256 /* of long options: beyond every character */

/* The verb's options as getopt_long wants them; val leads back to the row. */
static void list_options(const struct verb *verb, struct option *list)
{
    size_t count = 0;
    for (int i = 0; options[i].name != NULL && count < OPTIONS_MAX - 1; i++) {
        if (verb_takes(verb, &options[i])) {
            list[count++] = (struct option){
                .name = options[i].name,
                .has_arg = options[i].argument == NULL ? no_argument : required_argument,
                .val = FIRST_CODE + i,
            };
        }
    }
    memset(&list[count], 0, sizeof(list[count]));
}

/* text is the word that the parser has just passed. It still stands at the letters of a word such
 * as -abc; of those, optopt tells which it was. */
static int bad_option(const struct verb *verb, int code, const char *text)
{
    char letter[3] = {'-', (char)optopt, '\0'};
    if (code == ':') {
        return report_usage("%s: %s wants an argument; see: caskade help %s", verb->name, text,
                            verb->name);
    }
    if (optopt > ' ' && optopt < 0x7F) {
        text = letter;
    }
    return report_usage("%s: option %s is unknown, ambiguous or takes no argument (-- ends the "
                        "options); see: caskade help %s",
                        verb->name, text, verb->name);
}

static int parse_options(const struct verb *verb, int argc, char **argv, struct args *args)
{
    struct option list[OPTIONS_MAX];
    list_options(verb, list);
    opterr = 0;
    optopt = 0;
    optind = 1;
    for (;;) {
        /* The word at hand, for messages. getopt_long moves operands behind options as it goes. */
        int code = getopt_long(argc, argv, ":h", list, NULL);
        if (code == -1) {
            return EXIT_DONE;
        }
        if (code == 'h') {
            args->help = true;
        } else if (code >= FIRST_CODE) {
            const struct option_row *row = &options[code - FIRST_CODE];
            const char *problem = row->set(args, optarg);
            if (problem != NULL) {
                return report_usage("%s: --%s: %s, not '%s'", verb->name, row->name, problem,
                                    optarg);
            }
        } else {
            return bad_option(verb, code, argv[optind - 1]);
        }
    }
}

int args_parse(const struct verb *verb, int argc, char **argv, struct args *ret_args)
{
    struct args args = {.verb = verb, .limit = UINT64_MAX};
    args.open.size = sizeof(args.open);
    args.open.log = report_library;
    args.open.create = verb->create;
    int code = parse_options(verb, argc, argv, &args);
    if (code != EXIT_DONE) {
        return code;
    }
    int count = argc - optind;
    const char *gap = verb->operands[0] == '\0' ? "" : " ";
    if (!args.help && count < verb->operands_min) {
        return report_usage("%s: too few operands; usage: caskade %s [OPTION]...%s%s", verb->name,
                            verb->name, gap, verb->operands);
    }
    if (!args.help && count > verb->operands_max) {
        return report_usage(
            "%s: too many operands, from '%s' on; usage: caskade %s [OPTION]...%s%s", verb->name,
            argv[optind + verb->operands_max], verb->name, gap, verb->operands);
    }
    for (int i = 0; i < count && i < OPERANDS_MAX; i++) {
        args.operands[i] = argv[optind + i];
    }
    if ((verb->options & OPTIONS_OPEN) != 0 && count > 0 && args.operands[0][0] == '\0') {
        return report_usage("%s: DIR is empty", verb->name);
    }
    if (verb->read_only) {
        args.open.read_only = 1;
    }
    if (args.open.read_only) {
        args.open.create = CASK_CREATE_DEFAULT;
    }
    *ret_args = args;
    return EXIT_DONE;
}
