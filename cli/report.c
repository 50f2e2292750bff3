#include "report.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t report_lock = PTHREAD_MUTEX_INITIALIZER;
static bool transient_shown; /* under report_lock */
static atomic_bool library_failed;
static atomic_bool verbose_lines;

void report_set_verbose(bool verbose)
{
    atomic_store(&verbose_lines, verbose);
}

/* A failure to write to stderr has nobody to be told to. */
static void write_stderr(const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = write(STDERR_FILENO, text, size);
        if (n <= 0) {
            return;
        }
        text += n;
        size -= (size_t)n;
    }
}

static void wipe_transient(void)
{
    if (transient_shown) {
        write_stderr("\r\033[K", 4);
        transient_shown = false;
    }
}

__attribute__((format(printf, 2, 0))) static void report_line(const char *label, const char *format,
                                                              va_list list)
{
    char line[8192];
    int size = snprintf(line, sizeof(line), "caskade: %s", label);
    size_t used = (size_t)size;
    size = vsnprintf(line + used, sizeof(line) - used - 1, format, list);
    if (size > 0) {
        size_t room = sizeof(line) - used - 2;
        used += (size_t)size < room ? (size_t)size : room;
    }
    line[used++] = '\n';
    pthread_mutex_lock(&report_lock);
    wipe_transient();
    write_stderr(line, used);
    pthread_mutex_unlock(&report_lock);
}

void report_error(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    report_line("", format, list);
    va_end(list);
}

void report_warning(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    report_line("warning: ", format, list);
    va_end(list);
}

void report_note(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    report_line("", format, list);
    va_end(list);
}

int report_usage(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    report_line("", format, list);
    va_end(list);
    return EXIT_USAGE;
}

void report_transient(const char *text)
{
    pthread_mutex_lock(&report_lock);
    wipe_transient();
    if (text[0] != '\0') {
        write_stderr(text, strlen(text));
        transient_shown = true;
    }
    pthread_mutex_unlock(&report_lock);
}

void report_library(void *context, enum cask_log_level level, const char *message)
{
    (void)context;
    switch (level) {
    case CASK_LOG_ERROR:
        atomic_store(&library_failed, true);
        report_error("%s", message);
        break;
    case CASK_LOG_WARNING:
        report_warning("%s", message);
        break;
    case CASK_LOG_INFO:
        if (atomic_load(&verbose_lines)) {
            report_note("%s", message);
        }
        break;
    }
}

void report_begin(void)
{
    atomic_store(&library_failed, false);
}

/* A switch without a default: the compiler finds a status that was forgotten. */
static int exit_code_of(int status)
{
    switch ((enum cask_status)status) {
    case CASK_OK:
        return EXIT_DONE;
    case CASK_NOTFOUND:
        return EXIT_NOT_FOUND;
    case CASK_EINVAL:
    case CASK_ETOOBIG:
    case CASK_EREADONLY:
    case CASK_EEXIST:
    case CASK_EMISMATCH:
        return EXIT_USAGE;
    case CASK_ENOMEM:
    case CASK_EIO:
    case CASK_ENOSPC:
    case CASK_EROFS:
    case CASK_EACCES:
    case CASK_ENOTSTORE:
    case CASK_EVERSION:
    case CASK_ERANGE:
    case CASK_EMFILE:
    case CASK_ENOTSUP:
        return EXIT_SYSTEM;
    case CASK_ECORRUPT:
        return EXIT_CORRUPT;
    case CASK_ELOCKED:
    case CASK_EBUSY:
        return EXIT_LOCKED;
    }
    return EXIT_SYSTEM;
}

int report_failure(int status, const char *subject)
{
    if (!atomic_load(&library_failed)) {
        report_error("%s: %s", subject, cask_strerror(status));
    }
    return exit_code_of(status);
}
