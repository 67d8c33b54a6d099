// Flat YAML over libyaml's event parser. Hostile bytes cost nothing: the file is bounded, nesting beyond a list is refused at
// its first event, and aliases (the way to a billion laughs) are refused altogether.
#include "io/yaml.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <yaml.h>

#include "base/map.h"
#include "base/text.h"
#include "base/vec.h"

enum { MAX_FILE = 1 << 20, MAX_ITEMS = 4096 };

typedef struct {
    yaml_parser_t parser;
    yaml_event_t event;
    const char *name;
    LvYaml *yaml;
    LV_VEC(LvYamlItem) items;
    LvMap seen;  // key -> (void *)line
    LvError *error;
} Reader;

static int line_of(const Reader *r) {
    return (int)r->event.start_mark.line + 1;
}

static bool complain(Reader *r, int line, const char *what) {
    return lv_error_set(r->error, LV_ERROR_FORMAT, "%s:%d: %s", r->name, line, what);
}

static bool next(Reader *r) {
    yaml_event_delete(&r->event);
    if (!yaml_parser_parse(&r->parser, &r->event)) {
        memset(&r->event, 0, sizeof r->event);
        const char *problem = r->parser.problem ? r->parser.problem : "not readable as YAML";
        return complain(r, (int)r->parser.problem_mark.line + 1, problem);
    }
    if (r->event.type == YAML_ALIAS_EVENT) return complain(r, line_of(r), "aliases are not taken here");
    return true;
}

static bool is_word(const char *text, const char *const *words) {
    for (; *words; words++) {
        if (!strcmp(text, *words)) return true;
    }
    return false;
}

static bool is_number(const char *text) {
    json_error_t problem;
    json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &problem);
    bool good = json_is_number(value);
    json_decref(value);
    return good;
}

// The scalar as JSON or, when `bare`, as a plain string that needs no quotes. NULL: null.
static const char *scalar_text(Reader *r, bool bare) {
    static const char *const yes[] = {"true", "True", "TRUE", "yes", "Yes", "on", "On", NULL};
    static const char *const no[] = {"false", "False", "FALSE", "no", "No", "off", "Off", NULL};
    static const char *const none[] = {"null", "Null", "NULL", "None", "~", "", NULL};
    const char *text = (const char *)r->event.data.scalar.value;
    if (r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        if (is_word(text, none)) return NULL;
        if (is_word(text, yes)) return "true";
        if (is_word(text, no)) return "false";
        LvText trial = {0};  // YAML writes numbers that JSON does not: +1, .5, 5., 0001 stays a string
        const char *digits = text[0] == '+' ? text + 1 : text;
        bool negative = digits[0] == '-';
        if (negative) digits++;
        lv_text_printf(&trial, "%s%s%s", negative ? "-" : "", digits[0] == '.' ? "0" : "", digits);
        if (trial.length && trial.data[trial.length - 1] == '.') lv_text_putc(&trial, '0');
        char *number = is_number(trial.data) ? lv_arena_strdup(r->yaml->arena, trial.data) : NULL;
        lv_text_free(&trial);
        if (number) return number;
    }
    if (bare) return lv_arena_copy(r->yaml->arena, text, r->event.data.scalar.length);
    json_t *string = json_stringn(text, r->event.data.scalar.length);
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    const char *out = lv_arena_strdup(r->yaml->arena, quoted ? quoted : "\"\"");
    json_decref(string);
    free(quoted);
    return out;
}

static bool read_list(Reader *r, const char **value) {
    LvText list = {0};
    size_t count = 0;
    bool good = true;
    lv_text_putc(&list, '[');
    while ((good = next(r)) && r->event.type != YAML_SEQUENCE_END_EVENT) {
        if (r->event.type != YAML_SCALAR_EVENT) good = complain(r, line_of(r), "a list holds plain values only");
        if (good && ++count > MAX_ITEMS) good = complain(r, line_of(r), "the list is too long");
        if (!good) break;
        const char *text = scalar_text(r, false);
        lv_text_printf(&list, "%s%s", count > 1 ? ", " : "", text ? text : "null");
    }
    lv_text_putc(&list, ']');
    *value = lv_arena_strdup(r->yaml->arena, list.data);
    lv_text_free(&list);
    return good;
}

static bool read_pair(Reader *r) {
    if (r->event.type != YAML_SCALAR_EVENT) return complain(r, line_of(r), "a name is wanted here");
    LvYamlItem item = {.line = line_of(r)};
    item.key = lv_arena_copy(r->yaml->arena, (const char *)r->event.data.scalar.value, r->event.data.scalar.length);
    if (strlen(item.key) != r->event.data.scalar.length || !*item.key) return complain(r, item.line, "a name is wanted here");
    intptr_t before = (intptr_t)lv_map_get(&r->seen, item.key);
    if (before) {
        return lv_error_set(r->error, LV_ERROR_FORMAT, "%s:%d: '%s' is given twice, first on line %d", r->name, item.line,
                            item.key, (int)before);
    }
    lv_map_set(&r->seen, item.key, (void *)(intptr_t)item.line);
    if (r->items.count >= MAX_ITEMS) return complain(r, item.line, "too many entries");
    if (!next(r)) return false;
    if (r->event.type == YAML_SEQUENCE_START_EVENT) {
        if (!read_list(r, &item.value)) return false;
    } else if (r->event.type == YAML_SCALAR_EVENT) {
        item.value = scalar_text(r, true);
        if (item.value && strlen(item.value) > 65536) return complain(r, item.line, "the value is too long");
    } else {
        return lv_error_set(r->error, LV_ERROR_FORMAT, "%s:%d: '%s' is a map; configuration files are flat", r->name,
                            item.line, item.key);
    }
    lv_vec_push(&r->items, item);
    return true;
}

static bool read_document(Reader *r) {
    if (!next(r) || !next(r)) return false;  // stream start, document start or stream end
    if (r->event.type == YAML_STREAM_END_EVENT) return true;
    if (!next(r)) return false;
    if (r->event.type == YAML_SCALAR_EVENT && r->event.data.scalar.length == 0) return true;
    if (r->event.type != YAML_MAPPING_START_EVENT) return complain(r, line_of(r), "'name: value' lines are wanted");
    while (true) {
        if (!next(r)) return false;
        if (r->event.type == YAML_MAPPING_END_EVENT) break;
        if (!read_pair(r)) return false;
    }
    if (!next(r) || !next(r)) return false;
    return r->event.type == YAML_STREAM_END_EVENT || complain(r, line_of(r), "a second document is not taken here");
}

bool lv_yaml_parse(const char *data, size_t length, const char *name, LvYaml *yaml, LvError *error) {
    *yaml = (LvYaml){.arena = lv_arena_create()};
    Reader r = {.name = name, .yaml = yaml, .error = error};
    bool good = true;
    if (length > MAX_FILE) good = lv_error_set(error, LV_ERROR_FORMAT, "%s: more than a megabyte for a configuration", name);
    if (good && !yaml_parser_initialize(&r.parser)) good = lv_error_set(error, LV_ERROR_MEMORY, "%s: no memory", name);
    if (good) {
        yaml_parser_set_input_string(&r.parser, (const unsigned char *)data, length);
        good = read_document(&r);
        yaml_event_delete(&r.event);
        yaml_parser_delete(&r.parser);
    }
    yaml->items = lv_arena_array(yaml->arena, r.items.count + 1, sizeof *yaml->items);
    yaml->count = r.items.count;
    if (r.items.count) memcpy(yaml->items, r.items.data, r.items.count * sizeof *yaml->items);
    lv_vec_free(&r.items);
    lv_map_free(&r.seen);
    if (!good) lv_yaml_free(yaml);
    return good;
}

bool lv_yaml_read(const char *path, LvYaml *yaml, LvError *error) {
    char *data;
    size_t length;
    *yaml = (LvYaml){0};
    if (!lv_file_read(path, MAX_FILE, &data, &length, error)) return false;
    bool good = lv_yaml_parse(data, length, path, yaml, error);
    free(data);
    return good;
}

void lv_yaml_free(LvYaml *yaml) {
    if (yaml->arena) lv_arena_destroy(yaml->arena);
    *yaml = (LvYaml){0};
}
