// Which form of a call wins, by runs whose times and disturbances are written down beforehand.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "device/cpu/race.h"

enum { FORMS = 3 };

// What form f's runs take: `slow` seconds and disturbed until `calm` of them are over (-1: always), then `fast` and undisturbed.
typedef struct {
    double slow[FORMS], fast[FORMS];
    int calm[FORMS], runs[FORMS];
} Script;

static bool run(void *user, int form, double *seconds) {
    Script *s = user;
    bool undisturbed = s->calm[form] >= 0 && s->runs[form] >= s->calm[form];
    s->runs[form]++;
    *seconds = undisturbed ? s->fast[form] : s->slow[form];
    return undisturbed;
}

// The race after a first run that was disturbed.
static int race(Script *script, bool *sure) {
    Racer racers[FORMS];
    for (int f = 0; f < FORMS; f++)
        racers[f] = (Racer){.runs = true, .price = 1, .patience = f == 0 ? 1 : 3, .best = script->slow[f]};
    return race_run(racers, FORMS, 0, run, script, sure);
}

static void nothing_disturbs(void **state) {
    (void)state;
    bool sure;
    Script s = {.slow = {5e-3, 5e-3, 5e-3}, .fast = {3e-3, 1e-3, 1.2e-3}};
    assert_int_equal(race(&s, &sure), 1);
    assert_true(sure);
    assert_true(s.runs[0] < s.runs[1]);  // clearly slower: out
}

static void long_runs_are_few(void **state) {
    (void)state;
    bool sure;
    Script s = {.slow = {0.1, 0.1, 0.1}, .fast = {0.03, 0.031, 0.032}};
    assert_int_equal(race(&s, &sure), 0);
    assert_true(sure);
    assert_int_equal(s.runs[0], 2);
}

// The fastest form is seen undisturbed late, and looked clearly slower until then.
static void a_disturbed_form_is_waited_for(void **state) {
    (void)state;
    bool sure;
    Script s = {.slow = {2e-4, 9e-4, 9e-4}, .fast = {2e-4, 1e-4, 9e-4}, .calm = {0, 11, 0}};
    assert_int_equal(race(&s, &sure), 1);
    assert_true(sure);
}

static void the_wait_has_an_end(void **state) {
    (void)state;
    bool sure;
    Script s = {.slow = {2e-4, 9e-4, 9e-4}, .fast = {2e-4, 1e-4, 9e-4}, .calm = {0, -1, 0}};
    assert_int_equal(race(&s, &sure), 0);
    assert_false(sure);
    assert_true(s.runs[1] > 8 && s.runs[1] <= 16);
    Script lasting = {.slow = {0.02, 0.09, 0.09}, .calm = {-1, -1, -1}};
    assert_int_equal(race(&lasting, &sure), 0);
    assert_false(sure);
    assert_int_equal(lasting.runs[1], 2);
}

// Nothing makes a run faster than it is: who wins while disturbed wins.
static void a_disturbed_winner_is_sure(void **state) {
    (void)state;
    bool sure;
    Script s = {.slow = {2e-4, 1e-4, 9e-4}, .fast = {2e-4, 1e-4, 9e-4}, .calm = {0, -1, 0}};
    assert_int_equal(race(&s, &sure), 1);
    assert_true(sure);
}

static void a_price_is_paid(void **state) {
    (void)state;
    bool sure;
    Script s = {.fast = {1.1e-3, 1e-3, 1e9}};
    Racer racers[FORMS] = {{.runs = true, .price = 1, .patience = 1, .best = 1}, {.runs = true, .price = 1.2, .patience = 3, .best = 1},
                           {.best = 1e9, .price = 1}};
    assert_int_equal(race_run(racers, FORMS, 0, run, &s, &sure), 0);
    assert_int_equal(s.runs[2], 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_disturbs),
        cmocka_unit_test(long_runs_are_few),
        cmocka_unit_test(a_disturbed_form_is_waited_for),
        cmocka_unit_test(the_wait_has_an_end),
        cmocka_unit_test(a_disturbed_winner_is_sure),
        cmocka_unit_test(a_price_is_paid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
