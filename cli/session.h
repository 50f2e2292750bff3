/* What the verbs share: opening and closing the store, keys off the command line, standard
 * output. */
#ifndef CASKADE_CLI_SESSION_H
#define CASKADE_CLI_SESSION_H

#include "verbs.h"

/* Opens args' store. EXIT_DONE, or another exit code after saying why. */
int session_open(const struct args *args, struct cask_db **ret_db);

/* Closes it. Returns code, or if that is EXIT_DONE and closing failed, why in another one. */
int session_close(const struct args *args, struct cask_db *db, int code);

/* Bytes off the command line. */
struct operand {
    struct cask_slice bytes;
    uint8_t *decoded; /* with --escaped */
};

/* EXIT_DONE, or another exit code after saying why. operand_release() is due only after success. */
int operand_read(const struct args *args, const char *text, const char *what,
                 struct operand *ret_operand);
void operand_release(struct operand *operand);

/* The same, and a legal key. */
int operand_read_key(const struct args *args, const char *text, struct operand *ret_operand);

/* "DIR: no such key: KEY", the key escaped and shortened. Returns EXIT_NOT_FOUND. */
int session_no_such_key(const struct args *args, struct cask_slice key);

/* Flushes standard output; EXIT_DONE or EXIT_SYSTEM after saying why. A reader that went away is
 * not worth a line: see stdout_reader_gone(). */
int stdout_finish(struct out *out);

/* For outs to other files. */
int out_finish(struct out *out, const char *name);

/* Whether standard output turned out to be a pipe that nobody reads any more. */
bool stdout_reader_gone(void);

#endif
