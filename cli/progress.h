/* A bar with rate and time left for long work, on a terminal only. One at a time. */
#ifndef CASKADE_CLI_PROGRESS_H
#define CASKADE_CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum progress_unit { PROGRESS_BYTES, PROGRESS_RECORDS };

/* Shows nothing at all where stderr is no terminal, or where stdout is one too and data goes to it.
 * total 0: not known. */
void progress_begin(enum progress_unit unit, uint64_t total, bool data_on_stdout);

/* Cheap: draws a few times a second. One thread at a time. */
void progress_update(uint64_t done);

/* For a cask_progress_fn that counts bytes: begins at its first call, with nothing on stdout, and
 * updates from there on. */
void progress_follow(uint64_t done, uint64_t total);

/* Wipes the bar away. */
void progress_end(void);

/* The line that is drawn, at most width bytes. total 0: not known. */
void progress_line(char *line, size_t width, enum progress_unit unit, uint64_t done, uint64_t total,
                   double seconds);

/* Seconds by a clock that never goes back. */
double progress_seconds(void);

#endif
