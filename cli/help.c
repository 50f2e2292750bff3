/* help and the completion script: the tables of verbs.h, printed. */
#include "verbs.h"

#include "report.h"
#include "session.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void print_padded(struct out *out, const char *left, const char *right)
{
    size_t size = strlen(left);
    out_text(out, "  ");
    out_text(out, left);
    while (size++ < 24) {
        out_char(out, ' ');
    }
    out_char(out, ' ');
    out_text(out, right);
    out_char(out, '\n');
}

static void print_options(struct out *out, const struct verb *verb, unsigned groups)
{
    char name[64];
    for (const struct option_row *row = options; row->name != NULL; row++) {
        if (verb_takes(verb, row) && (row->groups & groups) != 0) {
            (void)snprintf(name, sizeof(name), "--%s%s%s", row->name,
                           row->argument == NULL ? "" : " ",
                           row->argument == NULL ? "" : row->argument);
            print_padded(out, name, row->summary);
        }
    }
}

static void print_verb(struct out *out, const struct verb *verb)
{
    out_text(out, "Usage: caskade ");
    out_text(out, verb->name);
    out_text(out, " [OPTION]...");
    out_text(out, verb->operands[0] == '\0' ? "" : " ");
    out_text(out, verb->operands);
    out_text(out, "\n\n");
    out_text(out, verb->summary);
    out_text(out, ".\n");
    if (verb->details != NULL) {
        out_text(out, verb->details);
        out_char(out, '\n');
    }
    out_text(out, "\nOptions:\n");
    print_options(out, verb, ~(unsigned)OPTIONS_OPEN);
    if ((verb->options & OPTIONS_OPEN) != 0) {
        out_text(out, "\nOptions that open the store:\n");
        print_options(out, verb, OPTIONS_OPEN);
    }
    if ((verb->options & OPTIONS_FORMAT) != 0) {
        out_text(out, "\nFormats:\n");
        for (size_t i = 0; formats[i] != NULL; i++) {
            print_padded(out, formats[i]->name, formats[i]->summary);
        }
    }
}

static void print_all(struct out *out)
{
    char line[96];
    out_text(out, "Usage: caskade VERB [OPTION]... DIR [OPERAND]...\n\n"
                  "Works on the Caskade store in directory DIR. Verbs:\n\n");
    for (const struct verb *verb = verbs; verb->name != NULL; verb++) {
        (void)snprintf(line, sizeof(line), "%s %s", verb->name, verb->operands);
        print_padded(out, line, verb->summary);
    }
    out_text(out, "\nExit codes: 0 done, 1 no such key, 2 usage, 3 system error, 4 the store is\n"
                  "damaged, 5 locked by another process, 6 load met lines it rejected.\n"
                  "\"caskade help VERB\" says more.\n");
}

int help_print(const struct verb *verb)
{
    struct out out;
    out_init(&out, STDOUT_FILENO);
    if (verb != NULL) {
        print_verb(&out, verb);
    } else {
        print_all(&out);
    }
    return stdout_finish(&out);
}

static void print_completion_verb(struct out *out, const struct verb *verb)
{
    out_text(out, "    ");
    out_text(out, verb->name);
    out_text(out, ")\n        words=\"");
    const char *gap = "";
    for (const struct option_row *row = options; row->name != NULL; row++) {
        if (verb_takes(verb, row)) {
            out_text(out, gap);
            out_text(out, "--");
            out_text(out, row->name);
            gap = " ";
        }
    }
    out_text(out, "\"\n        ;;\n");
}

static const char completion_head[] =
    "# bash completion for caskade. Made by: caskade help --completion\n"
    "\n"
    "_caskade()\n"
    "{\n"
    "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}\n"
    "    local words=\"\"\n"
    "    COMPREPLY=()\n"
    "    if [[ $COMP_CWORD -eq 1 || ($COMP_CWORD -eq 2 && $previous == help) ]]; then\n";

static const char completion_middle[] =
    "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n"
    "        return\n"
    "    fi\n"
    "    case $previous in\n";

static const char
    completion_verbs[] = "    esac\n"
                         "    if [[ -n $words ]]; then\n"
                         "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n"
                         "        return\n"
                         "    fi\n"
                         "    case ${COMP_WORDS[1]} in\n";

static const char
    completion_tail[] = "    esac\n"
                        "    if [[ $current == -* ]]; then\n"
                        "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n"
                        "    else\n"
                        "        compopt -o filenames 2>/dev/null\n"
                        "        mapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
                        "    fi\n"
                        "}\n"
                        "\n"
                        "complete -F _caskade caskade\n";

int help_print_completion(void)
{
    struct out out;
    out_init(&out, STDOUT_FILENO);
    out_text(&out, completion_head);
    out_text(&out, "        words=\"");
    for (const struct verb *verb = verbs; verb->name != NULL; verb++) {
        out_text(&out, verb == verbs ? "" : " ");
        out_text(&out, verb->name);
    }
    out_text(&out, "\"\n");
    out_text(&out, completion_middle);
    for (const struct option_row *row = options; row->name != NULL; row++) {
        if (row->words != NULL) {
            out_text(&out, "    --");
            out_text(&out, row->name);
            out_text(&out, ")\n        words=\"");
            out_text(&out, row->words);
            out_text(&out, "\"\n        ;;\n");
        }
    }
    out_text(&out, completion_verbs);
    for (const struct verb *verb = verbs; verb->name != NULL; verb++) {
        print_completion_verb(&out, verb);
    }
    out_text(&out, completion_tail);
    return stdout_finish(&out);
}

int verb_help(const struct args *args)
{
    if (args->completion) {
        return help_print_completion();
    }
    const char *name = args->operands[0];
    const struct verb *verb = name == NULL ? NULL : verb_by_name(name);
    if (name != NULL && verb == NULL) {
        return report_usage("help: no verb '%s'; see: caskade help", name);
    }
    return help_print(verb);
}

int verb_version(const struct args *args)
{
    struct out out;
    (void)args;
    out_init(&out, STDOUT_FILENO);
    out_text(&out, "caskade ");
    out_text(&out, cask_version());
    out_char(&out, '\n');
    return stdout_finish(&out);
}
