#include "base/near.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define LONG_WORD                                                                                  \
    "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk" /* 63 letters                \
                                                                       */

static const char *const words[] = {"alpha", "beta", "gamma", "warn", LONG_WORD, LONG_WORD "l"};

static const struct {
    const char *word, *near;
} cases[] = {
    {"alpha", "alpha"},
    {"alpa", "alpha"},
    {"bets", "beta"},
    {"ggamma", "gamma"},
    {"gaa", "gamma"},
    {"alphaxx", "alpha"},
    {"warning", "warn"},
    {"war", "warn"},
    {"wa", NULL}, /* two letters are the begin of too much; as a distance they are too far */
    {"alphaxxxxx", NULL},
    {"xxxxx", NULL},
    {"", NULL},
    {"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefgh", LONG_WORD},
    {LONG_WORD "l", NULL}, /* too long to be compared, even with itself */
};

static void the_nearest_word_is_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *near = near_word(sv_str(cases[i].word), words, ARRAY_LEN(words));
        if ((near == NULL) != (cases[i].near == NULL) || (near && strcmp(near, cases[i].near) != 0))
            fail_msg("%s: %s", cases[i].word, near ? near : "none");
    }
    assert_null(near_word(SV("a"), words, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_nearest_word_is_found)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
