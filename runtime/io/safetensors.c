// Reading and writing safetensors. A file is hostile until checked: the header's length, every type, shape and offset,
// overlaps by way of the sum (the format wants tensors end to end; gaps are allowed here, sharing bytes too: both only read).
#include "io/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "base/map.h"
#include "base/vec.h"

enum { MAX_HEADER = 100 << 20, ALIGN = 64 };  // 100 MB is the reference implementation's bound too

struct LvTensorFile {
    LvArena *arena;
    LV_VEC(LvTensor) tensors;
    LvMap by_name;   // (void *)(index + 1)
    LvMap metadata;  // arena text
    char *data;      // the file's bytes, or NULL where tensors were added one by one
    size_t mapped;   // bytes of them where they are mapped, 0: malloc gave them
    LV_VEC(void *) blocks;
};

static const struct {
    const char *name;
    LvDType dtype;
} types[] = {{"F32", LV_F32}, {"BF16", LV_BF16}, {"F16", LV_F16}, {"F64", LV_F64}, {"I32", LV_I32}, {"I64", LV_I64}, {"BOOL", LV_BOOL}};
enum { TYPES = sizeof types / sizeof *types };

LvTensorFile *lv_tensor_file_create(void) {
    LvTensorFile *file = lv_calloc(1, sizeof *file);
    file->arena = lv_arena_create();
    return file;
}

void lv_safetensors_free(LvTensorFile *file) {
    if (!file) return;
    for (size_t i = 0; i < file->blocks.count; i++) free(file->blocks.data[i]);
    lv_vec_free(&file->blocks);
    lv_vec_free(&file->tensors);
    lv_map_free(&file->by_name);
    lv_map_free(&file->metadata);
    lv_arena_destroy(file->arena);
    if (file->mapped) munmap(file->data, file->mapped);
    else free(file->data);
    free(file);
}

static void keep(LvTensorFile *file, LvTensor tensor) {
    lv_vec_push(&file->tensors, tensor);
    lv_map_set(&file->by_name, tensor.name, (void *)(intptr_t)file->tensors.count);
}

void *lv_tensor_file_add(LvTensorFile *file, const char *name, LvDType dtype, LvShape shape) {
    LvTensor tensor = {.name = lv_arena_strdup(file->arena, name), .dtype = dtype, .shape = shape};
    if (!lv_shape_bytes(shape, dtype, &tensor.bytes)) return NULL;
    void *data = lv_calloc(tensor.bytes + 1, 1);
    tensor.data = data;
    lv_vec_push(&file->blocks, data);
    keep(file, tensor);
    return data;
}

bool lv_tensor_file_refer(LvTensorFile *file, const char *name, LvDType dtype, LvShape shape, const void *data) {
    LvTensor tensor = {.name = lv_arena_strdup(file->arena, name), .dtype = dtype, .shape = shape, .data = data};
    if (!lv_shape_bytes(shape, dtype, &tensor.bytes)) return false;
    keep(file, tensor);
    return true;
}

LvTensorFile *lv_tensor_file_part(const LvTensorFile *file, const char *prefix) {
    LvTensorFile *part = lv_tensor_file_create();
    size_t skip = strlen(prefix);
    for (size_t i = 0; i < file->tensors.count; i++) {
        LvTensor tensor = file->tensors.data[i];
        if (strncmp(tensor.name, prefix, skip)) continue;
        tensor.name = lv_arena_strdup(part->arena, tensor.name + skip);
        keep(part, tensor);
    }
    return part;
}

static bool parse_tensor(LvTensorFile *file, const char *name, json_t *item, const char *data, size_t length, LvError *error) {
    LvTensor tensor = {.name = lv_arena_strdup(file->arena, name)};
    const char *type = json_string_value(json_object_get(item, "dtype"));
    json_t *shape = json_object_get(item, "shape"), *offsets = json_object_get(item, "data_offsets");
    int at = 0;
    while (at < TYPES && (!type || strcmp(type, types[at].name))) at++;
    if (at == TYPES) {
        return lv_error_set(error, LV_ERROR_UNSUPPORTED, "tensor '%s' has the type '%s', which is not read here", name, type ? type : "");
    }
    tensor.dtype = types[at].dtype;
    if (!json_is_array(shape) || json_array_size(shape) > LV_MAX_RANK) {
        return lv_error_set(error, LV_ERROR_FORMAT, "tensor '%s' has no shape of at most %d dimensions", name, LV_MAX_RANK);
    }
    tensor.shape.rank = (int)json_array_size(shape);
    for (int i = 0; i < tensor.shape.rank; i++) {
        json_t *dim = json_array_get(shape, (size_t)i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0) {
            return lv_error_set(error, LV_ERROR_FORMAT, "tensor '%s' has a negative extent", name);
        }
        tensor.shape.dim[i] = json_integer_value(dim);
    }
    json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    int64_t begin = json_is_integer(first) ? json_integer_value(first) : -1;
    int64_t end = json_is_integer(last) ? json_integer_value(last) : -1;
    if (!lv_shape_bytes(tensor.shape, tensor.dtype, &tensor.bytes) || begin < 0 || end < begin || (uint64_t)end > length ||
        (uint64_t)(end - begin) != tensor.bytes) {
        return lv_error_set(error, LV_ERROR_FORMAT, "tensor '%s': shape and place do not fit; the file is damaged or cut off", name);
    }
    tensor.data = data + begin;
    keep(file, tensor);
    return true;
}

static bool parse_header(LvTensorFile *file, json_t *root, const char *data, size_t length, LvError *error) {
    const char *name;
    json_t *item;
    json_object_foreach(root, name, item) {
        if (strcmp(name, "__metadata__")) {
            if (!parse_tensor(file, name, item, data, length, error)) return false;
            continue;
        }
        const char *key;
        json_t *value;
        json_object_foreach(item, key, value) {
            if (!json_is_string(value)) return lv_error_set(error, LV_ERROR_FORMAT, "metadata '%s' is no text", key);
            lv_map_set(&file->metadata, key, lv_arena_strdup(file->arena, json_string_value(value)));
        }
    }
    return true;
}

// Takes `data`, which malloc gave, or is a mapping.
static bool parse_owned(char *data, size_t length, bool mapped, LvTensorFile **out, LvError *error) {
    LvTensorFile *file = lv_tensor_file_create();
    file->data = data, file->mapped = mapped ? length : 0;
    uint64_t header = 0;
    for (int i = 7; length >= 8 && i >= 0; i--) header = header << 8 | (unsigned char)data[i];
    bool good = length >= 8 && header <= length - 8 && header <= MAX_HEADER;
    if (!good) lv_error_set(error, LV_ERROR_FORMAT, "no safetensors file, or one that is cut off");
    if (good) {
        json_error_t problem;
        json_t *root = json_loadb(data + 8, (size_t)header, JSON_REJECT_DUPLICATES, &problem);
        good = json_is_object(root);
        if (!good) lv_error_set(error, LV_ERROR_FORMAT, "the header is no JSON object: %s", root ? "" : problem.text);
        good = good && parse_header(file, root, data + 8 + header, length - 8 - (size_t)header, error);
        json_decref(root);
    }
    if (!good) {
        lv_safetensors_free(file);
        return false;
    }
    *out = file;
    return true;
}

bool lv_safetensors_parse(const void *data, size_t length, LvTensorFile **file, LvError *error) {
    char *copy = lv_malloc(length + 1);
    memcpy(copy, data, length);
    return parse_owned(copy, length, false, file, error);
}

bool lv_safetensors_read(const char *path, LvTensorFile **file, LvError *error) {
    void *data;
    size_t length;
    if (!lv_file_map(path, &data, &length, error)) return false;
    return parse_owned(data, length, true, file, error) || lv_error_prefix(error, "%s", path);
}

void lv_safetensors_leave(const LvTensorFile *file) {
    if (file->mapped) madvise(file->data, file->mapped, MADV_DONTNEED);
}

int lv_safetensors_count(const LvTensorFile *file) {
    return (int)file->tensors.count;
}

const LvTensor *lv_safetensors_at(const LvTensorFile *file, int index) {
    return &file->tensors.data[index];
}

const LvTensor *lv_safetensors_find(const LvTensorFile *file, const char *name) {
    intptr_t at = (intptr_t)lv_map_get(&file->by_name, name);
    return at ? &file->tensors.data[at - 1] : NULL;
}

const char *lv_safetensors_metadata(const LvTensorFile *file, const char *key) {
    return lv_map_get(&file->metadata, key);
}

// ---- writing

// The header, padded with spaces so that the data begins at a multiple of 64.
static bool print_header(const LvTensor *tensors, int count, const LvMetadata *metadata, int metadata_count, LvText *out,
                         LvError *error) {
    json_t *root = json_object(), *about = json_object();
    bool good = true;
    for (int i = 0; i < metadata_count; i++) {
        good = good && json_object_set_new(about, metadata[i].key, json_string(metadata[i].value)) == 0;
    }
    if (metadata_count) json_object_set(root, "__metadata__", about);
    json_decref(about);
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        json_t *shape = json_array();
        const char *type = "";
        for (int t = 0; t < TYPES; t++) {
            if (types[t].dtype == tensors[i].dtype) type = types[t].name;
        }
        for (int d = 0; d < tensors[i].shape.rank; d++) json_array_append_new(shape, json_integer(tensors[i].shape.dim[d]));
        good = good && json_object_set_new(root, tensors[i].name,
                                           json_pack("{ss, so, s[I, I]}", "dtype", type, "shape", shape, "data_offsets",
                                                     (json_int_t)at, (json_int_t)(at + tensors[i].bytes))) == 0;
        at += tensors[i].bytes;
    }
    char *text = good ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text) return lv_error_set(error, LV_ERROR_FORMAT, "a name or metadata that is not UTF-8");
    size_t length = strlen(text), padded = (8 + length + ALIGN - 1) / ALIGN * ALIGN - 8;
    for (int i = 0; i < 8; i++) lv_text_putc(out, (char)(padded >> 8 * i));
    lv_text_append(out, text, length);
    while (length++ < padded) lv_text_putc(out, ' ');
    free(text);
    return true;
}

static bool write_all(int file, const void *data, size_t length) {
    const char *at = data;
    while (length > 0) {
        ssize_t n = write(file, at, length < (size_t)1 << 30 ? length : (size_t)1 << 30);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n;
        length -= (size_t)n;
    }
    return true;
}

static void sync_folder(const char *path) {
    LvText folder = {0};
    const char *slash = strrchr(path, '/');
    if (slash) lv_text_append(&folder, path, slash > path ? (size_t)(slash - path) : 1);
    else lv_text_puts(&folder, ".");
    int at = open(folder.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (at >= 0) {
        fsync(at);
        close(at);
    }
    lv_text_free(&folder);
}

bool lv_safetensors_write(const char *path, const LvTensor *tensors, int count, const LvMetadata *metadata,
                          int metadata_count, LvError *error) {
    LvText header = {0}, temporary = {0};
    bool special = lv_file_is_special(path);  // /dev/null: written to, never replaced
    if (!print_header(tensors, count, metadata, metadata_count, &header, error)) return false;
    if (special) lv_text_puts(&temporary, path);
    else lv_text_printf(&temporary, "%s.tmp.%ld", path, (long)getpid());
    int file = open(temporary.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool good = file >= 0 && write_all(file, header.data, header.length);
    for (int i = 0; good && i < count; i++) good = write_all(file, tensors[i].data, tensors[i].bytes);
    good = good && (special || fsync(file) == 0);
    int saved = errno;
    if (file >= 0 && close(file) != 0 && good) good = false, saved = errno;
    if (good && !special && rename(temporary.data, path) != 0) good = false, saved = errno;
    if (!good) {
        if (file >= 0 && !special) unlink(temporary.data);
        errno = saved;
        lv_error_system(error, "cannot write '%s'", path);
    } else {
        sync_folder(path);
    }
    lv_text_free(&header);
    lv_text_free(&temporary);
    return good;
}
