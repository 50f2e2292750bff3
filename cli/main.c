/* The caskade command. Data goes to standard output, everything else to standard error; exit codes
 * are in report.h. */
#include "report.h"
#include "session.h"
#include "verbs.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* A standard descriptor that is closed would be given to the next file opened, and a message could
 * end up in a segment. What is put in its place fails as a closed one would. */
static bool hold_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) == -1 &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) {
            return false;
        }
    }
    return true;
}

static int run(const struct verb *verb, int argc, char **argv)
{
    struct args args;
    int code = args_parse(verb, argc, argv, &args);
    if (code != EXIT_DONE) {
        return code;
    }
    return args.help ? help_print(verb) : verb->run(&args);
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        return report_usage("no verb; see: caskade help");
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        return run(verb_by_name("help"), argc - 1, argv + 1);
    }
    if (strcmp(argv[1], "--version") == 0) {
        return run(verb_by_name("version"), argc - 1, argv + 1);
    }
    const struct verb *verb = verb_by_name(argv[1]);
    if (verb == NULL) {
        return report_usage("no verb '%s'; see: caskade help", argv[1]);
    }
    return run(verb, argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    if (!hold_standard_descriptors()) {
        return EXIT_SYSTEM;
    }
    /* Writing to a pipe that nobody reads must not end the process before the store is closed.
     * Once it is, the process ends as if the signal had not been held back: quietly. */
    (void)signal(SIGPIPE, SIG_IGN);
    int code = dispatch(argc, argv);
    if (stdout_reader_gone()) {
        (void)signal(SIGPIPE, SIG_DFL);
        (void)raise(SIGPIPE);
    }
    return code;
}
