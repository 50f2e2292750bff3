#include "progress.h"

#include "report.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 256
#define DRAW_EVERY_SECONDS 0.1

static struct {
    bool begun; /* until progress_end() */
    bool shown;
    enum progress_unit unit;
    uint64_t total;
    double start;
    double last_drawn;
} progress;

double progress_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void progress_begin(enum progress_unit unit, uint64_t total, bool data_on_stdout)
{
    progress.shown = isatty(STDERR_FILENO) == 1 && !(data_on_stdout && isatty(STDOUT_FILENO) == 1);
    progress.begun = true;
    progress.unit = unit;
    progress.total = total;
    progress.start = progress_seconds();
    progress.last_drawn = progress.start;
}

/* 12.3M with the unit's letter behind it. */
static void put_amount(char *text, size_t size, double amount, enum progress_unit unit)
{
    static const char *const prefixes[] = {"", "K", "M", "G", "T", "P"};
    double step = unit == PROGRESS_BYTES ? 1024 : 1000;
    size_t power = 0;
    while (amount >= step && power < 5) {
        amount /= step;
        power++;
    }
    (void)snprintf(text, size, "%.*f%s%s", power > 0 && amount < 100 ? 1 : 0, amount,
                   prefixes[power], unit == PROGRESS_BYTES ? "B" : " records");
}

void progress_line(char *line, size_t width, enum progress_unit unit, uint64_t done, uint64_t total,
                   double seconds)
{
    char amount[40], rate[40], tail[160];
    double per_second = seconds > 0 ? (double)done / seconds : 0;
    put_amount(amount, sizeof(amount), (double)done, unit);
    put_amount(rate, sizeof(rate), per_second, unit);
    if (total == 0) {
        (void)snprintf(line, width, "%s, %s/s, %.0f s", amount, rate, seconds);
        return;
    }
    if (done > total) {
        done = total;
    }
    double left = per_second > 0 ? (double)(total - done) / per_second : 0;
    unsigned long left_s = left < 3.6e7 ? (unsigned long)left : 0;
    (void)snprintf(tail, sizeof(tail), " %3.0f%% %s, %s/s, %lu:%02lu left",
                   100 * (double)done / (double)total, amount, rate, left_s / 60, left_s % 60);
    size_t bar = width > strlen(tail) + 13 ? width - strlen(tail) - 3 : 0;
    bar = bar > 40 ? 40 : bar;
    size_t full = (size_t)((double)bar * (double)done / (double)total);
    size_t used = 0;
    if (bar > 0) {
        line[used++] = '[';
        for (size_t i = 0; i < bar; i++) {
            line[used++] = i < full ? '#' : '.';
        }
        line[used++] = ']';
    }
    (void)snprintf(line + used, width - used, "%s", tail + (bar == 0));
}

void progress_update(uint64_t done)
{
    if (!progress.shown) {
        return;
    }
    double now = progress_seconds();
    if (now - progress.last_drawn < DRAW_EVERY_SECONDS) {
        return;
    }
    progress.last_drawn = now;
    struct winsize window = {.ws_col = 0};
    size_t width = 80;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0) {
        width = window.ws_col;
    }
    char line[LINE_MAX_BYTES];
    progress_line(line, width < sizeof(line) ? width : sizeof(line), progress.unit, done,
                  progress.total, now - progress.start);
    report_transient(line);
}

void progress_follow(uint64_t done, uint64_t total)
{
    if (!progress.begun) {
        progress_begin(PROGRESS_BYTES, total, false);
    }
    progress.total = total; /* of a store in use it may change */
    progress_update(done);
}

void progress_end(void)
{
    progress.begun = false;
    if (progress.shown) {
        report_transient("");
        progress.shown = false;
    }
}
