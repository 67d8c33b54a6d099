// Configuration files: a flat YAML map from names to scalars and lists of scalars, each with the line it stands on.
// A value is given as the compiler takes settings: JSON (`[64, 32]`, `true`, `0.5`) or a bare string.
#ifndef LV_IO_YAML_H
#define LV_IO_YAML_H

#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"

typedef struct {
    const char *key, *value;  // value NULL: the file says null, so the default stands
    int line;                 // from 1
} LvYamlItem;

typedef struct {
    LvArena *arena;
    LvYamlItem *items;  // in the file's order
    size_t count;
} LvYaml;

// `name` stands in messages: "name:3: …".
bool lv_yaml_parse(const char *data, size_t length, const char *name, LvYaml *yaml, LvError *error);
bool lv_yaml_read(const char *path, LvYaml *yaml, LvError *error);
void lv_yaml_free(LvYaml *yaml);

#endif
