/* Lines for the user's log callback. The library has no other voice. */
#ifndef CASKADE_REPORT_H
#define CASKADE_REPORT_H

#include "base/status.h"

struct reporter {
    cask_log_fn log; /* may be NULL */
    void *context;
};

__attribute__((format(printf, 3, 4))) void report(const struct reporter *reporter,
                                                  enum cask_log_level level, const char *format,
                                                  ...);

#endif
