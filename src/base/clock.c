#include "base/clock.h"

#include <stdio.h>
#include <time.h>

#define DAY_S     ((int64_t)86400)
#define WALL_LAST ((int64_t)253402300799999) /* 9999-12-31T23:59:59.999Z */

struct civil {
    unsigned year, month, day, hour, min, sec, ms, weekday; /* month 1..12, Sunday = 0 */
};

struct clock clock_now(void)
{
    struct timespec m, w;

    (void)clock_gettime(CLOCK_MONOTONIC, &m);
    (void)clock_gettime(CLOCK_REALTIME, &w);
    return (struct clock){.mono_ms = (int64_t)m.tv_sec * 1000 + m.tv_nsec / 1000000,
                          .wall_ms = (int64_t)w.tv_sec * 1000 + w.tv_nsec / 1000000};
}

static unsigned year_days(unsigned y)
{
    return (y % 4 == 0 && (y % 100 != 0 || y % 400 == 0)) ? 366 : 365;
}

static unsigned month_days(unsigned y, unsigned m)
{
    static const unsigned char days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return m == 2 && year_days(y) == 366 ? 29 : days[m - 1];
}

/* Times outside 1970..9999 are clamped: they come from broken clocks and must not break a line. */
static struct civil civil_from_ms(int64_t wall_ms)
{
    int64_t ms = wall_ms < 0 ? 0 : wall_ms > WALL_LAST ? WALL_LAST : wall_ms;
    int64_t s = ms / 1000;
    unsigned day = (unsigned)(s / DAY_S), in_day = (unsigned)(s % DAY_S);
    struct civil c = {.year = 1970, .month = 1, .weekday = (day + 4) % 7};

    c.ms = (unsigned)(ms % 1000);
    c.hour = in_day / 3600;
    c.min = in_day / 60 % 60;
    c.sec = in_day % 60;
    c.year += day / 146097 * 400; /* days in 400 years */
    day %= 146097;
    for (; day >= year_days(c.year); c.year++)
        day -= year_days(c.year);
    for (; day >= month_days(c.year, c.month); c.month++)
        day -= month_days(c.year, c.month);
    c.day = day + 1;
    return c;
}

size_t clock_rfc5322(int64_t wall_ms, char out_text[CLOCK_RFC5322_MAX])
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct civil c = civil_from_ms(wall_ms);
    int n = snprintf(out_text, CLOCK_RFC5322_MAX, "%s, %02u %s %04u %02u:%02u:%02u +0000",
                     days[c.weekday], c.day, months[c.month - 1], c.year, c.hour, c.min, c.sec);

    return (size_t)n;
}

size_t clock_iso(int64_t wall_ms, char out_text[CLOCK_ISO_MAX])
{
    struct civil c = civil_from_ms(wall_ms);
    int n = snprintf(out_text, CLOCK_ISO_MAX, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", c.year,
                     c.month, c.day, c.hour, c.min, c.sec, c.ms);

    return (size_t)n;
}
