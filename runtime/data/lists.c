// Captions kept apart from the pictures: TSV (a path, a tab, a caption; several lines a picture) and COCO's caption JSON.
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/text.h"
#include "data/index.h"

enum { MAX_LIST = 1 << 30 };

// One more line. Room doubles, so that a list of nothing but captions of one picture costs no more than its size.
static void append_caption(LvDataset *dataset, Sample *sample, const char *caption) {
    size_t used = sample->caption_size, length = strlen(caption), room = 64;
    if (used + length + 1 >= UINT32_MAX) return;
    while (room < used) room *= 2;
    if (!sample->caption || used + length + 2 > room) {
        while (room < used + length + 2) room *= 2;
        char *text = lv_arena_alloc(dataset->arena, room);
        if (used) memcpy(text, sample->caption, used);
        sample->caption = text;
    }
    char *text = (char *)sample->caption;
    if (used) text[used++] = '\n';
    memcpy(text + used, caption, length + 1);
    sample->caption_size = (uint32_t)(used + length);
    dataset->captions = true;
}

// Adds a caption line to the sample of that name, which is made when it is new. `slots` maps names to numbers + 1.
static void add_line(LvDataset *dataset, LvMap *slots, const char *name, const char *caption) {
    size_t slot = (size_t)lv_map_get(slots, name);
    if (!slot) {
        lv_vec_push(&dataset->samples, (Sample){.name = lv_arena_strdup(dataset->arena, name), .shard = -1});
        slot = dataset->samples.count;
        lv_map_set(slots, name, (void *)slot);
    }
    if (caption && *caption) append_caption(dataset, &dataset->samples.data[slot - 1], caption);
}

static bool finish(const LvDataset *dataset, const char *path, LvError *error) {
    if (dataset->samples.count) return true;
    lv_error_set(error, LV_ERROR_FORMAT, "%s: names no pictures", path);
    return lv_error_hint(error, "a line is a picture's path, a tab, its caption");
}

bool index_tsv(LvDataset *dataset, const char *path, LvError *error) {
    char *text, *save = NULL;
    size_t length, skipped = 0;
    LvMap slots = {0};
    if (!lv_file_read(path, MAX_LIST, &text, &length, error)) return false;
    if (strlen(text) != length) return free(text), lv_error_set(error, LV_ERROR_FORMAT, "%s: is no text: it holds a zero byte", path);
    for (char *line = strtok_r(text, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
        char *tab = strchr(line, '\t');
        if (tab) *tab = 0;
        if (lv_picture_known_suffix(line)) add_line(dataset, &slots, line, tab ? tab + 1 : NULL);
        else if (*line != '#') skipped++;  // a head line, or something else
    }
    lv_map_free(&slots);
    free(text);
    if (skipped > 1) index_warn(dataset, "%s: %zu lines do not begin with a picture's path", path, skipped);
    return finish(dataset, path, error);
}

// "file_name" of the image with this id.
static void remember_image(LvMap *names, LvDataset *dataset, LvMap *slots, const json_t *image) {
    const char *name = json_string_value(json_object_get(image, "file_name"));
    const json_t *id = json_object_get(image, "id");
    char key[32];
    if (!name || !json_is_integer(id)) return;
    snprintf(key, sizeof key, "%lld", (long long)json_integer_value(id));
    add_line(dataset, slots, name, NULL);
    lv_map_set(names, key, (void *)name);
}

static void read_annotation(LvMap *names, LvDataset *dataset, LvMap *slots, const json_t *annotation) {
    const char *caption = json_string_value(json_object_get(annotation, "caption"));
    const json_t *id = json_object_get(annotation, "image_id");
    char key[32];
    if (!caption || !json_is_integer(id)) return;
    snprintf(key, sizeof key, "%lld", (long long)json_integer_value(id));
    const char *name = lv_map_get(names, key);
    if (!name) return;
    char *line = lv_strdup(caption);
    for (char *c = line; *c; c++) {
        if (*c == '\n' || *c == '\r') *c = ' ';
    }
    add_line(dataset, slots, name, line);
    free(line);
}

bool index_coco(LvDataset *dataset, const char *path, LvError *error) {
    char *text;
    size_t length, i;
    json_error_t where;
    if (!lv_file_read(path, MAX_LIST, &text, &length, error)) return false;
    json_t *root = json_loadb(text, length, 0, &where), *item;
    free(text);
    if (!root) return lv_error_set(error, LV_ERROR_FORMAT, "%s:%d:%d: %s", path, where.line, where.column, where.text);
    json_t *images = json_object_get(root, "images"), *annotations = json_object_get(root, "annotations");
    LvMap names = {0}, slots = {0};
    bool good = json_is_array(images);
    if (!good) lv_error_set(error, LV_ERROR_FORMAT, "%s: has no list \"images\": COCO's caption files are read", path);
    json_array_foreach(images, i, item) remember_image(&names, dataset, &slots, item);
    json_array_foreach(annotations, i, item) read_annotation(&names, dataset, &slots, item);
    lv_map_free(&names);
    lv_map_free(&slots);
    json_decref(root);
    return good && finish(dataset, path, error);
}
