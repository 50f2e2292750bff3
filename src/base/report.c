#include "base/report.h"

#include <stdarg.h>
#include <stdio.h>

#define LINE_BYTES 1024

void report(const struct reporter *reporter, enum cask_log_level level, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;

    if (!reporter->log)
        return;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    reporter->log(reporter->context, level, line);
}
