/* Everything the command says on stderr, and what its exit codes mean.
 *
 *  1. A line is written in one piece, from whatever thread, and a progress bar on the terminal is
 *     wiped away first and drawn again later.
 *  2. Errors of the library arrive as lines of its log callback, which name the file. They are
 *     printed as they come; report_failure() adds a line of its own only where none came.
 */
#ifndef CASKADE_CLI_REPORT_H
#define CASKADE_CLI_REPORT_H

#include <caskade.h>
#include <stdbool.h>

enum exit_code {
    EXIT_DONE = 0,
    EXIT_NOT_FOUND = 1,
    EXIT_USAGE = 2,
    EXIT_SYSTEM = 3,
    EXIT_CORRUPT = 4,
    EXIT_LOCKED = 5,
    EXIT_REJECTED = 6
};

/* Informational lines of the library are shown from here on. */
void report_set_verbose(bool verbose);

__attribute__((format(printf, 1, 2))) void report_error(const char *format, ...);
__attribute__((format(printf, 1, 2))) void report_warning(const char *format, ...);
__attribute__((format(printf, 1, 2))) void report_note(const char *format, ...);

/* A usage error: one line, and the code to exit with. */
__attribute__((format(printf, 1, 2))) int report_usage(const char *format, ...);

/* The cask_log_fn of the command. */
void report_library(void *context, enum cask_log_level level, const char *message);

/* Forgets the errors that the library has reported so far: what follows is a new piece of work. */
void report_begin(void);

/* Says that a call of the library has failed with status, unless the library has said so itself
 * since report_begin(). subject is a file, directory or FILE:LINE. Returns the exit code. */
int report_failure(int status, const char *subject);

/* Shows text on the terminal until something else is reported. "" wipes it away. */
void report_transient(const char *text);

#endif
