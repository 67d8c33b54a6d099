// Configuration files: a flat YAML map of options and of the model's parameters, such as the original's.
#include "options.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/yaml.h"
#include "train_options.h"

static bool is_file(const char *config) {
    const char *dot = strrchr(config, '.');
    return strchr(config, '/') || (dot && (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml")));
}

static const OptionSpec *find(const OptionSpec *specs, const char *name) {
    for (; specs->name; specs++) {
        if (!strcmp(specs->name, name)) return specs;
    }
    return NULL;
}

static char *dashed(LvArena *arena, const char *key, char to) {
    char *name = lv_arena_strdup(arena, key);
    for (char *p = name; *p; p++) {
        if (*p == '-' || *p == '_') *p = to;
    }
    return name;
}

typedef LV_VEC(struct OptionGiven) Given;
typedef LV_VEC(OptionSetting) Settings;

// A file made for training serves the other commands too: what only training knows is passed over there, except for names
// that models have as parameters.
static bool only_for_training(const char *name) {
    return find(train_option_specs, name) && strcmp(name, "learning-rate");
}

static bool take_item(const Options *options, const LvYamlItem *item, const char *path, Given *given, Settings *settings,
                      LvError *error) {
    char *name = dashed(options->arena, item->key, '-');
    const OptionSpec *spec = find(options->specs, name);
    if (!item->value) return true;
    const char *value = lv_arena_strdup(options->arena, item->value);
    if (spec && spec->kind == OPTION_FLAG && strcmp(value, "true") && strcmp(value, "false")) {
        return lv_error_set(error, LV_ERROR_USAGE, "%s:%d: '%s' is true or false, not '%s'", path, item->line, item->key, value);
    }
    if (spec) lv_vec_push(given, (struct OptionGiven){spec, value, lv_arena_printf(options->arena, "%s:%d", path, item->line)});
    else if (!only_for_training(name)) {
        lv_vec_push(settings, (OptionSetting){dashed(options->arena, item->key, '_'), value,
                                              lv_arena_printf(options->arena, "%s:%d", path, item->line), false});
    }
    return true;
}

bool options_read_config(Options *options, LvError *error) {
    const char *config = options_get(options, "config", NULL), *path;
    if (!config || !is_file(config)) return true;
    path = lv_arena_strdup(options->arena, config);
    LvYaml yaml;
    Given given = {0};
    Settings settings = {0};
    if (!lv_yaml_read(path, &yaml, error)) {
        if (error->kind == LV_ERROR_IO) error->kind = LV_ERROR_USAGE;
        return false;
    }
    bool good = true;
    for (size_t i = 0; good && i < yaml.count; i++) good = take_item(options, &yaml.items[i], path, &given, &settings, error);
    lv_yaml_free(&yaml);
    options->config_settings = settings.count;
    for (size_t i = 0; i < options->given.count; i++) {  // the command line's come after, and so win
        struct OptionGiven g = options->given.data[i];
        if (strcmp(g.spec->name, "config") || !is_file(g.value)) lv_vec_push(&given, g);
    }
    for (size_t i = 0; i < options->settings.count; i++) lv_vec_push(&settings, options->settings.data[i]);
    lv_vec_free(&options->given);
    lv_vec_free(&options->settings);
    memcpy(&options->given, &given, sizeof given);
    memcpy(&options->settings, &settings, sizeof settings);
    return good;
}
