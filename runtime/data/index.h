// Private to the data sets: what an index holds, and the builders, one per kind of source. A builder adds samples in their
// final order; it reports what it passed over as warnings, and fails only when nothing can come of it.
#ifndef LV_DATA_INDEX_H
#define LV_DATA_INDEX_H

#include "base/arena.h"
#include "base/vec.h"
#include "data/dataset.h"

typedef struct {
    const char *name;
    const char *caption;     // lists: the captions themselves, NULL if none
    uint64_t offset, size;   // shards: where the picture is
    uint64_t caption_offset;
    uint32_t caption_size;   // lists: bytes of `caption`
    int32_t shard;
    bool caption_beside;     // folders: NAME.txt is there; shards: caption_offset and caption_size are set
} Sample;

typedef struct {
    const char *path;
    int fd;  // of the unpacked copy of a .tar.gz, else -1: opened for each read, as there may be thousands
} Shard;

typedef enum { SOURCE_FOLDER, SOURCE_SHARDS, SOURCE_LIST, SOURCE_FAKE, SOURCE_TEXT } Source;

struct LvDataset {
    Source source;
    LvArena *arena;     // all texts
    const char *spec, *root;  // names are relative to root
    LV_VEC(Sample) samples;
    LV_VEC(Shard) shards;
    LV_VEC(const char *) warnings;
    bool captions;
    uint64_t fingerprint;
    // text: samples are its files, of each of which `from` to `to` percent count; then the ids, as bytes or as tokens
    int from, to;
    uint8_t *bytes;    // [length]
    int32_t *tokens;   // [length]
    uint64_t length, windows;
    int64_t window;
};

enum { MAX_CAPTION_FILE = 1 << 20 };

void index_warn(LvDataset *dataset, const char *format, ...) __attribute__((format(printf, 2, 3)));

bool index_folder(LvDataset *dataset, LvError *error);  // dataset->root; leaves no samples and no error when it holds only shards
bool index_shards(LvDataset *dataset, const char *const *paths, size_t count, LvError *error);
bool index_tsv(LvDataset *dataset, const char *path, LvError *error);
bool index_text(LvDataset *dataset, const char *path, LvError *error);  // a file; index_folder takes folders
bool index_coco(LvDataset *dataset, const char *path, LvError *error);

// Whether the file, which is there, begins like a text. False also where it cannot be read, which a warning tells.
bool text_is_text(LvDataset *dataset, const char *path);
void text_free(LvDataset *dataset);

// A sample's file; free().
char *sample_path(const LvDataset *dataset, const char *name);

// `count` bytes at `offset` of a shard into fresh memory with a closing zero.
bool shard_read(const LvDataset *dataset, int32_t shard, uint64_t offset, uint64_t size, char **bytes, LvError *error);

// The tar files of a folder itself (not below), sorted; count 0 if there are none.
size_t folder_shards(LvDataset *dataset, const char *folder, const char ***paths);

#endif
