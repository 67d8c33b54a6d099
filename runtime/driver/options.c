// Parsing of a subcommand's options: see options.h.
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *normal_name(LvArena *arena, const char *name, size_t length, char to) {
    char *out = lv_arena_copy(arena, name, length);
    for (char *p = out; *p; p++) {
        if (*p == '-' || *p == '_') *p = to;
    }
    return out;
}

static const OptionSpec *find_spec(const OptionSpec *specs, const char *name) {
    for (; specs->name; specs++) {
        if (!strcmp(specs->name, name)) return specs;
    }
    return NULL;
}

static bool unknown_option(const OptionSpec *specs, const char *given, const char *name, LvError *error) {
    LV_VEC(const char *) names = {0};
    for (const OptionSpec *s = specs; s->name; s++) lv_vec_push(&names, s->name);
    const char *near = lv_nearest_name(name, names.data, names.count);
    lv_vec_free(&names);
    lv_error_set(error, LV_ERROR_USAGE, "unknown option '%s'", given);
    return near ? lv_error_hint(error, "did you mean '--%s'?", near) : lv_error_hint(error, "--help lists the options");
}

static bool take_setting(Options *options, const char *text, LvError *error) {
    const char *equals = strchr(text, '=');
    if (!equals || equals == text) {
        lv_error_set(error, LV_ERROR_USAGE, "--set takes name=value, not '%s'", text);
        return lv_error_hint(error, "for example --set hidden_dim=64");
    }
    char *name = normal_name(options->arena, text, (size_t)(equals - text), '_');
    lv_vec_push(&options->settings, (OptionSetting){name, lv_arena_strdup(options->arena, equals + 1), "--set", false});
    return true;
}

static bool looks_like_value(const char *word) {
    return word && (strncmp(word, "--", 2) != 0);
}

static bool is_number(const char *word) {
    char *end;
    if (!word || !strchr("-.0123456789", *word)) return false;
    strtod(word, &end);
    return end != word && !*end;
}

// `value` is the word at *at: `1 2 4` becomes `[1, 2, 4]`, and *at moves over the numbers. A lone word stays as it is.
static const char *several_numbers(LvArena *arena, const char *value, int argc, char **argv, int *at) {
    if (!is_number(value) || *at + 1 >= argc || !is_number(argv[*at + 1])) return value;
    const char *list = lv_arena_printf(arena, "[%s", value);
    while (*at + 1 < argc && is_number(argv[*at + 1])) list = lv_arena_printf(arena, "%s, %s", list, argv[++*at]);
    return lv_arena_printf(arena, "%s]", list);
}

// One option at argv[*at]; moves *at over the value.
static bool parse_option(Options *options, bool settings, int argc, char **argv, int *at, LvError *error) {
    const char *word = argv[*at], *equals = strchr(word, '=');
    size_t length = equals ? (size_t)(equals - word - 2) : strlen(word) - 2;
    char *name = normal_name(options->arena, word + 2, length, '-');
    char *shown = lv_arena_copy(options->arena, word, length + 2);
    const char *value = equals ? equals + 1 : NULL;
    const OptionSpec *spec = find_spec(options->specs, name);
    bool is_set = settings && !strcmp(name, "set");
    if (spec && spec->kind == OPTION_FLAG) {
        if (value) return lv_error_set(error, LV_ERROR_USAGE, "%s takes no value", shown);
        lv_vec_push(&options->given, (struct OptionGiven){spec, "true", NULL});
        return true;
    }
    if (spec || is_set) {
        if (!value && *at + 1 < argc) value = argv[++*at];
        if (!value) return lv_error_set(error, LV_ERROR_USAGE, "%s takes a value", shown);
        if (is_set) return take_setting(options, value, error);
        if (spec->kind == OPTION_NUMBERS && !equals) value = several_numbers(options->arena, value, argc, argv, at);
        lv_vec_push(&options->given, (struct OptionGiven){spec, value, NULL});
        while (spec->kind == OPTION_WORDS && !equals && *at + 1 < argc && looks_like_value(argv[*at + 1]))
            lv_vec_push(&options->given, (struct OptionGiven){spec, argv[++*at], NULL});
        return true;
    }
    if (!strncmp(name, "no-", 3) && (spec = find_spec(options->specs, name + 3)) && spec->kind == OPTION_FLAG && !value) {
        lv_vec_push(&options->given, (struct OptionGiven){spec, "false", NULL});
        return true;
    }
    if (!settings) return unknown_option(options->specs, shown, name, error);
    if (!value && *at + 1 < argc && looks_like_value(argv[*at + 1])) {
        value = argv[++*at];
        value = several_numbers(options->arena, value, argc, argv, at);
    }
    if (!value) value = "true";
    lv_vec_push(&options->settings, (OptionSetting){normal_name(options->arena, name, strlen(name), '_'), value, shown, false});
    return true;
}

bool options_parse(Options *options, const OptionSpec *specs, bool settings, int argc, char **argv, LvError *error) {
    *options = (Options){.specs = specs, .arena = lv_arena_create()};
    bool only_words = false;
    for (int i = 1; i < argc; i++) {
        if (!only_words && !strcmp(argv[i], "--")) only_words = true;
        else if (!only_words && !strcmp(argv[i], "-c") && find_spec(specs, "config") && i + 1 < argc) {
            lv_vec_push(&options->given, (struct OptionGiven){find_spec(specs, "config"), argv[++i], NULL});
        }
        else if (!only_words && !strncmp(argv[i], "--", 2)) {
            if (!parse_option(options, settings, argc, argv, &i, error)) return false;
        } else {
            lv_vec_push(&options->words, argv[i]);
        }
    }
    return options_read_config(options, error);
}

void options_free(Options *options) {
    lv_vec_free(&options->given);
    lv_vec_free(&options->words);
    lv_vec_free(&options->settings);
    if (options->arena) lv_arena_destroy(options->arena);
    *options = (Options){0};
}

const char *options_get(const Options *options, const char *name, const char *otherwise) {
    for (size_t i = options->given.count; i-- > 0;) {
        if (!strcmp(options->given.data[i].spec->name, name)) return options->given.data[i].value;
    }
    return otherwise;
}

bool options_has(const Options *options, const char *name) {
    return options_get(options, name, NULL) != NULL;
}

bool options_flag(const Options *options, const char *name, bool otherwise) {
    const char *value = options_get(options, name, NULL);
    return value ? !strcmp(value, "true") : otherwise;
}

// The message begins with the place where a file gives the option.
static bool from_file(const Options *options, const char *name, LvError *error) {
    for (size_t i = options->given.count; i-- > 0;) {
        struct OptionGiven given = options->given.data[i];
        if (strcmp(given.spec->name, name)) continue;
        return given.origin ? lv_error_prefix(error, "%s", given.origin) : false;
    }
    return false;
}

bool options_integer(const Options *options, const char *name, int64_t low, int64_t high, int64_t *value, LvError *error) {
    const char *text = options_get(options, name, NULL);
    if (!text) return true;
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (errno || end == text || *end) {
        lv_error_set(error, LV_ERROR_USAGE, "--%s takes an integer, not '%s'", name, text);
        return from_file(options, name, error);
    }
    if (number < low || number > high) {
        lv_error_set(error, LV_ERROR_USAGE, "--%s must be in %lld … %lld, not %s", name, (long long)low,
                     (long long)high, text);
        return from_file(options, name, error);
    }
    *value = number;
    return true;
}

bool options_number(const Options *options, const char *name, double *value, LvError *error) {
    const char *text = options_get(options, name, NULL);
    if (!text) return true;
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end || !isfinite(number)) {
        lv_error_set(error, LV_ERROR_USAGE, "--%s takes a number, not '%s'", name, text);
        return from_file(options, name, error);
    }
    *value = number;
    return true;
}

bool options_bytes(const Options *options, const char *name, int64_t *value, LvError *error) {
    const char *text = options_get(options, name, NULL);
    if (!text) return true;
    return lv_text_bytes(text, value) || lv_error_set(error, LV_ERROR_USAGE, "--%s takes bytes (8G), not '%s'", name, text);
}

void options_print_help(const OptionSpec *specs, LvText *out) {
    for (; specs->name; specs++) {
        if (!specs->help) continue;  // taken, but nothing a user should reach for
        LvText left = {0};
        lv_text_printf(&left, "--%s%s%s", specs->name, specs->value ? " " : "", specs->value ? specs->value : "");
        lv_text_printf(out, "  %-26s %s\n", left.data, specs->help);
        lv_text_free(&left);
    }
}

int options_help_page(const char *usage, const char *about, const OptionSpec *specs, const char *examples) {
    LvText text = {0};
    lv_text_printf(&text, "usage: %s\n\n%s\n\nOptions (- and _ are alike; --name=value is --name value):\n", usage, about);
    options_print_help(specs, &text);
    if (examples) lv_text_printf(&text, "\nExamples:\n%s", examples);
    fputs(text.data, stdout);
    lv_text_free(&text);
    return 0;
}
