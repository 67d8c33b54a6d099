// WebDataset: the members of a tar file that share a name up to the first dot are one sample: KEY.jpg and KEY.txt.
// A .tar.gz is unpacked into an unnamed temporary file once, since gzip cannot be read from the middle.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/map.h"
#include "base/text.h"
#include "data/index.h"
#include "data/tar.h"

static bool read_all(int fd, uint64_t offset, void *out, size_t size) {
    for (char *at = out; size;) {
        ssize_t got = pread(fd, at, size, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        at += got, offset += (uint64_t)got, size -= (size_t)got;
    }
    return true;
}

static bool read_input(void *context, uint64_t offset, void *out, size_t size) { return read_all(*(int *)context, offset, out, size); }

bool shard_read(const LvDataset *dataset, int32_t shard, uint64_t offset, uint64_t size, char **bytes, LvError *error) {
    const Shard *from = &dataset->shards.data[shard];
    if (size > LV_PICTURE_MAX_FILE) return lv_error_set(error, LV_ERROR_FORMAT, "absurdly large: %llu bytes", (unsigned long long)size);
    int fd = from->fd >= 0 ? from->fd : open(from->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return lv_error_system(error, "%s", from->path);
    char *data = malloc((size_t)size + 1);
    bool good = data && read_all(fd, offset, data, (size_t)size);
    if (from->fd < 0) close(fd);
    if (!good) {
        free(data);
        return lv_error_set(error, LV_ERROR_IO, "%s: cannot be read any more at byte %llu", from->path, (unsigned long long)offset);
    }
    data[size] = 0;
    *bytes = data;
    return true;
}

// ---- grouping members into samples

typedef struct {
    LvDataset *dataset;
    int32_t shard;
    char *key;       // of the sample being gathered
    Sample sample;   // its name is NULL until a picture comes
    LvMap lone;      // key -> (void *)(index + 1) in `captions`: captions whose picture did not stand beside them
    LV_VEC(Sample) captions;
} Gather;

static void close_sample(Gather *gather) {
    if (gather->sample.name) {
        gather->dataset->captions |= gather->sample.caption_beside;
        lv_vec_push(&gather->dataset->samples, gather->sample);
    } else if (gather->key && gather->sample.caption_beside) {
        lv_vec_push(&gather->captions, gather->sample);
        lv_map_set(&gather->lone, gather->key, (void *)(intptr_t)gather->captions.count);
    }
    free(gather->key);
    gather->key = NULL;
    gather->sample = (Sample){.shard = gather->shard};
}

static bool gather_member(void *user, const LvTarMember *member) {
    Gather *gather = user;
    const char *slash = strrchr(member->name, '/'), *base = slash ? slash + 1 : member->name, *dot = strchr(base, '.');
    if (!dot || dot == base) return true;  // no suffix, or hidden (as the "._x" of some systems)
    size_t length = (size_t)(dot - member->name);
    if (!gather->key || strncmp(gather->key, member->name, length) || gather->key[length]) {
        close_sample(gather);
        gather->key = strndup(member->name, length);
    }
    if (!strchr(dot + 1, '.') && lv_picture_known_suffix(base)) {
        if (!gather->sample.name) {
            gather->sample.name = lv_arena_strdup(gather->dataset->arena, member->name);
            gather->sample.offset = member->offset, gather->sample.size = member->size;
        }
    } else if (!strcasecmp(dot, ".txt") && member->size <= MAX_CAPTION_FILE) {
        gather->sample.caption_beside = true;
        gather->sample.caption_offset = member->offset, gather->sample.caption_size = (uint32_t)member->size;
    }
    return true;
}

// The members of a sample ought to stand together. In an archive that a plain `tar` made they may not.
static void join_lone(Gather *gather, size_t first) {
    LvText key = {0};
    for (size_t i = first; gather->captions.count && i < gather->dataset->samples.count; i++) {
        Sample *sample = &gather->dataset->samples.data[i];
        const char *slash = strrchr(sample->name, '/'), *base = slash ? slash + 1 : sample->name;
        key.length = 0;
        lv_text_append(&key, sample->name, (size_t)(base - sample->name) + strcspn(base, "."));
        intptr_t at = sample->caption_beside ? 0 : (intptr_t)lv_map_get(&gather->lone, key.data);
        if (!at) continue;
        sample->caption_beside = gather->dataset->captions = true;
        sample->caption_offset = gather->captions.data[at - 1].caption_offset;
        sample->caption_size = gather->captions.data[at - 1].caption_size;
    }
    lv_text_free(&key);
    lv_map_free(&gather->lone);
    lv_vec_free(&gather->captions);
}

// ---- opening

// An unnamed file in $TMPDIR with the unpacked bytes; -1 on failure.
static int unpack(const char *path, LvError *error) {
    const char *folder = getenv("TMPDIR");
    char name[4096];
    snprintf(name, sizeof name, "%s/lverse-shard-XXXXXX", folder && *folder ? folder : "/tmp");
    int fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0) return lv_error_system(error, "%s: cannot make a temporary file %s", path, name), -1;
    unlink(name);
    gzFile in = gzopen(path, "rb");
    if (!in) return lv_error_system(error, "%s", path), close(fd), -1;
    static const unsigned window = 1 << 18;
    gzbuffer(in, window);
    char *buffer = lv_malloc(window);
    int got, status;
    bool written = true;
    while (written && (got = gzread(in, buffer, window)) > 0) written = write(fd, buffer, (size_t)got) == got;
    const char *why = gzerror(in, &status);
    if (!written) lv_error_set(error, LV_ERROR_IO, "%s: unpacking into %s: is the disk full?", path, folder ? folder : "/tmp");
    else if (status < 0 && status != Z_BUF_ERROR) written = lv_error_set(error, LV_ERROR_FORMAT, "%s: gzip: %s", path, why);
    gzclose(in);
    free(buffer);
    return written ? fd : (close(fd), -1);
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && !strcasecmp(text + length - tail, end);
}

static bool index_shard(LvDataset *dataset, const char *path, LvError *error) {
    bool packed = ends_with(path, ".gz") || ends_with(path, ".tgz");
    int fd = packed ? unpack(path, error) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return error->kind ? false : lv_error_system(error, "%s", path);
    struct stat status;
    if (fstat(fd, &status) || !S_ISREG(status.st_mode)) return close(fd), lv_error_set(error, LV_ERROR_IO, "%s: is not a file", path);
    Gather gather = {.dataset = dataset, .shard = (int32_t)dataset->shards.count, .sample = {.shard = (int32_t)dataset->shards.count}};
    LvTarInput input = {&fd, (uint64_t)status.st_size, read_input};
    size_t before = dataset->samples.count;
    bool good = lv_tar_list(&input, gather_member, &gather, error);
    close_sample(&gather);
    join_lone(&gather, before);
    lv_vec_push(&dataset->shards, (Shard){path, packed ? fd : -1});
    if (!packed) close(fd);
    if (good) return true;
    lv_error_prefix(error, "%s", path);
    if (dataset->samples.count == before) return false;
    index_warn(dataset, "%s; the %zu samples before that are used", error->message, dataset->samples.count - before);
    lv_error_clear(error);
    return true;
}

// A shard that cannot be used at all is passed over when others can.
bool index_shards(LvDataset *dataset, const char *const *paths, size_t count, LvError *error) {
    LvError first = {0};
    for (size_t i = 0; i < count; i++) {
        LvError one = {0};
        if (index_shard(dataset, lv_arena_strdup(dataset->arena, paths[i]), &one)) continue;
        index_warn(dataset, "%s", one.message);
        if (first.kind) lv_error_clear(&one);
        else first = one;
    }
    if (dataset->samples.count) return lv_error_clear(&first), true;
    if (first.kind) {
        lv_error_clear(error);
        return *error = first, false;
    }
    lv_error_set(error, LV_ERROR_IO, "no pictures in %s%s", paths[0], count > 1 ? " and the other shards" : "");
    return lv_error_hint(error, "a sample is KEY.jpg, KEY.png or KEY.webp, with its caption in KEY.txt");
}
