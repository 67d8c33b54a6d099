// Pictures of the command line: see pictures.h.
#include "pictures.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "data/transforms.h"
#include "io/safetensors.h"

static bool add_word(Pictures *p, const char *word, LvError *error) {
    struct stat info;
    if (lv_picture_known_suffix(word) && stat(word, &info) == 0 && S_ISREG(info.st_mode)) {
        lv_vec_push(&p->items, (PictureItem){NULL, 0, word});
        return true;
    }
    LvDataset *data = NULL;
    if (!lv_dataset_open(&data, word, error)) return false;
    lv_vec_push(&p->sets, data);
    for (size_t i = 0; i < lv_dataset_count(data); i++) lv_vec_push(&p->items, (PictureItem){data, i, lv_dataset_name(data, i)});
    return true;
}

bool pictures_open(Pictures *pictures, const char *const *words, size_t count, LvError *error) {
    *pictures = (Pictures){0};
    bool good = true;
    for (size_t i = 0; good && i < count; i++) good = add_word(pictures, words[i], error);
    return good;
}

void pictures_close(Pictures *pictures) {
    for (size_t i = 0; i < pictures->sets.count; i++) lv_dataset_close(pictures->sets.data[i]);
    lv_vec_free(&pictures->sets);
    lv_vec_free(&pictures->items);
}

bool pictures_load(const Pictures *pictures, size_t index, int side, uint8_t *out, LvError *error) {
    const PictureItem *item = &pictures->items.data[index];
    LvPicture picture = {0};
    bool good = item->data ? lv_dataset_picture(item->data, item->sample, &picture, error)
                           : lv_picture_load(&picture, item->name, error);
    if (!good) return false;
    uint8_t *rgb = lv_malloc((size_t)side * (size_t)side * 3);
    lv_transform_center(&picture, side, LV_FILTER_BICUBIC, rgb);
    lv_transform_to_planes(rgb, side, false, out);
    lv_picture_free(&picture);
    free(rgb);
    return true;
}

void pictures_name_for(const PictureItem *item, LvText *out) {
    const char *name = item->data ? item->name : strrchr(item->name, '/') ? strrchr(item->name, '/') + 1 : item->name;
    const char *dot = strrchr(name, '.');
    size_t length = dot && dot > name && !strchr(dot, '/') ? (size_t)(dot - name) : strlen(name);
    out->length = 0;
    for (size_t i = 0; i < length; i++) lv_text_putc(out, name[i] == '/' ? '_' : name[i]);
    lv_text_puts(out, ".png");
}

bool pictures_write_codes(const char *path, LvDType dtype, LvShape shape, const void *codes, const json_t *names, LvError *error) {
    LvTensorFile *file = lv_tensor_file_create();
    size_t bytes = 0;
    shape.dim[0] = (int64_t)json_array_size(names);
    void *data = lv_tensor_file_add(file, "tokens", dtype, shape);
    if (lv_shape_bytes(shape, dtype, &bytes) && bytes) memcpy(data, codes, bytes);
    char *list = json_dumps(names, JSON_COMPACT);
    LvMetadata metadata = {"names", list ? list : "[]"};
    bool good = lv_safetensors_write(path, lv_safetensors_at(file, 0), 1, &metadata, 1, error);
    free(list);
    lv_safetensors_free(file);
    return good;
}
