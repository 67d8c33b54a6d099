// Configuration files: what YAML's scalars become, line numbers, and what is refused with which words.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"
#include "io/yaml.h"

// "key=value@line; ..." of a text, or "error: MESSAGE".
static void expect(const char *text, const char *wanted) {
    LvYaml yaml;
    LvError error = {0};
    LvText got = {0};
    if (lv_yaml_parse(text, strlen(text), "c.yaml", &yaml, &error)) {
        for (size_t i = 0; i < yaml.count; i++) {
            lv_text_printf(&got, "%s%s=%s@%d", i ? "; " : "", yaml.items[i].key, yaml.items[i].value ? yaml.items[i].value : "(null)",
                           yaml.items[i].line);
        }
        lv_yaml_free(&yaml);
    } else {
        lv_text_printf(&got, "error: %s", error.message);
    }
    assert_string_equal(lv_text_get(&got), wanted);
    lv_text_free(&got);
    lv_error_clear(&error);
}

static void scalars(void **state) {
    (void)state;
    expect("epochs: 30\nbatch_size: 4 # four\n\nlearning_rate: 4.5e-6\n", "epochs=30@1; batch_size=4@2; learning_rate=4.5e-6@4");
    expect("a: true\nb: No\nc: ~\nd:\ne: 'true'\n", "a=true@1; b=false@2; c=(null)@3; d=(null)@4; e=true@5");
    expect("a: +1\nb: .5\nc: -.5\nd: 5.\n", "a=1@1; b=0.5@2; c=-0.5@3; d=5.0@4");
    expect("train_dir: /data/some pictures\nloss_type: 'mse'\n", "train_dir=/data/some pictures@1; loss_type=mse@2");
    expect("\xEF\xBB\xBF" "a: 1\n", "a=1@1");
    expect("---\na: 1\n...\n", "a=1@2");
}

static void lists(void **state) {
    (void)state;
    expect("ch_mult: [1, 2, 4]\nlevels:\n- 64\n- 32\nnames: [a, \"b c\", 'd\"']\nnone: []\n",
           "ch_mult=[1, 2, 4]@1; levels=[64, 32]@2; names=[\"a\", \"b c\", \"d\\\"\"]@5; none=[]@6");
    expect("a: [true, null, .5]\n", "a=[true, null, 0.5]@1");
}

static void nothing(void **state) {
    (void)state;
    expect("", "");
    expect("# only a comment\n", "");
    expect("--- \n", "");
    expect("{}", "");
}

static void refused(void **state) {
    (void)state;
    expect("a: 1\nb: 2\na: 3\n", "error: c.yaml:3: 'a' is given twice, first on line 1");
    expect("a: 1\nb:\n  c: 2\n", "error: c.yaml:2: 'b' is a map; configuration files are flat");
    expect("a: [1, [2]]\n", "error: c.yaml:1: a list holds plain values only");
    expect("- 1\n- 2\n", "error: c.yaml:1: 'name: value' lines are wanted");
    expect("only words\n", "error: c.yaml:1: 'name: value' lines are wanted");
    expect("[a, b]: 1\n", "error: c.yaml:1: a name is wanted here");
    expect("a: &x 1\nb: *x\n", "error: c.yaml:2: aliases are not taken here");
    expect("a: 1\n---\nb: 2\n", "error: c.yaml:2: a second document is not taken here");
}

// Broken YAML: a message with a line, whatever libyaml's words are.
static void broken(void **state) {
    (void)state;
    const char *texts[] = {"a: [1, 2\n", "a: \"x\n", "\ta: 1\n", "a: 1\n b: 2\n", "a: \x80\xFF\n", "{a: 1", "a: !!binary", "%"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        LvYaml yaml;
        LvError error = {0};
        if (lv_yaml_parse(texts[i], strlen(texts[i]), "c.yaml", &yaml, &error)) {
            lv_yaml_free(&yaml);
            continue;
        }
        assert_non_null(error.message);
        assert_int_equal(strncmp(error.message, "c.yaml:", 7), 0);
        assert_null(strchr(error.message, '\n'));
        lv_error_clear(&error);
    }
}

static void bounded(void **state) {
    (void)state;
    LvText text = {0};
    LvYaml yaml;
    LvError error = {0};
    for (int i = 0; i < 100000; i++) lv_text_putc(&text, '[');
    assert_false(lv_yaml_parse(text.data, text.length, "deep.yaml", &yaml, &error));
    lv_error_clear(&error);
    text.length = 0;
    for (int i = 0; i < 10000; i++) lv_text_printf(&text, "k%d: 1\n", i);
    assert_false(lv_yaml_parse(text.data, text.length, "long.yaml", &yaml, &error));
    assert_string_equal(error.message, "long.yaml:4097: too many entries");
    lv_error_clear(&error);
    text.length = 0;
    while (text.length <= 1 << 20) lv_text_puts(&text, "# a comment that is long enough to fill the file\n");
    assert_false(lv_yaml_parse(text.data, text.length, "large.yaml", &yaml, &error));
    assert_string_equal(error.message, "large.yaml: more than a megabyte for a configuration");
    lv_error_clear(&error);
    lv_text_free(&text);
}

static void files(void **state) {
    (void)state;
    LvYaml yaml;
    LvError error = {0};
    assert_false(lv_yaml_read("/nonexistent/c.yaml", &yaml, &error));
    assert_non_null(strstr(error.message, "/nonexistent/c.yaml"));
    lv_error_clear(&error);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars), cmocka_unit_test(lists),   cmocka_unit_test(nothing), cmocka_unit_test(refused),
        cmocka_unit_test(broken),  cmocka_unit_test(bounded), cmocka_unit_test(files),
    };
    return cmocka_run_group_tests_name("yaml", tests, NULL, NULL);
}
