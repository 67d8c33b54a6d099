// Text for language models: files that are text, joined to one row of ids, and windows of it. All of it is in memory: a byte an
// id, or with a tokenizer four bytes.
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/text.h"
#include "data/index.h"
#include "text/utf8.h"

enum {
    LOOKED_AT = 1024,  // bytes that tell text from other files
    PIECE = 1 << 20,   // a text is tokenized in pieces of about so many bytes, up to a newline: tokenizers bound what they take
};

static const size_t MAX_CORPUS = (size_t)1 << 32;  // of a larger one the arithmetic below would overflow

// ---- the files

// Whole UTF-8, but for a character that the end cuts in two.
static bool is_text(const char *bytes, size_t length) {
    if (memchr(bytes, 0, length)) return false;
    for (size_t cut = 0; cut < 4 && cut <= length; cut++) {
        if (utf8_is_whole(bytes, length - cut)) return cut == 0 || length == LOOKED_AT;
    }
    return false;
}

bool text_is_text(LvDataset *dataset, const char *path) {
    char bytes[LOOKED_AT];
    size_t length = 0;
    ssize_t got = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (file >= 0 && length < LOOKED_AT && (got = read(file, bytes + length, LOOKED_AT - length)) > 0) length += (size_t)got;
    LvError error = {0};
    if (file < 0 || got < 0) {
        lv_error_system(&error, "%s", path);
        index_warn(dataset, "%s", error.message);
        lv_error_clear(&error);
    }
    if (file >= 0) close(file);
    return got >= 0 && length > 0 && is_text(bytes, length);
}

bool index_text(LvDataset *dataset, const char *path, LvError *error) {
    const char *slash = strrchr(path, '/');
    if (!text_is_text(dataset, path)) {
        if (dataset->warnings.count) return lv_error_set(error, LV_ERROR_IO, "%s", dataset->warnings.data[0]);
        lv_error_set(error, LV_ERROR_FORMAT, "%s: is no text", path);
        return lv_error_hint(error, "UTF-8 is read, without zero bytes");
    }
    lv_vec_push(&dataset->samples, (Sample){.name = lv_arena_strdup(dataset->arena, slash ? slash + 1 : path), .shard = -1});
    return true;
}

void text_free(LvDataset *dataset) {
    free(dataset->bytes);
    free(dataset->tokens);
}

// ---- ids

// A percentage of a text, moved on to where a character begins, so that two parts side by side share none.
static size_t part_of(const char *text, size_t length, int percent) {
    size_t at = length / 100 * (size_t)percent + length % 100 * (size_t)percent / 100;
    while (at < length && !utf8_is_start(text[at])) at++;
    return at;
}

static bool add_tokens(LvTokenIds *ids, const LvTokenizer *tokenizer, const char *text, size_t length, LvError *error) {
    while (length) {
        const char *newline = length > PIECE ? memchr(text + PIECE, '\n', length - PIECE) : NULL;
        size_t piece = newline ? (size_t)(newline - text) + 1 : length;
        if (!lv_tokenizer_encode(tokenizer, text, piece, 0, ids, error)) return false;
        text += piece, length -= piece;
    }
    return true;
}

// The part of a file that counts, moved to the front of its bytes.
static bool read_part(const LvDataset *dataset, const char *name, char **text, size_t *length, LvError *error) {
    char *path = sample_path(dataset, name);
    bool good = lv_file_read(path, MAX_CORPUS, text, length, error);
    free(path);
    if (!good) return false;
    size_t from = part_of(*text, *length, dataset->from), to = part_of(*text, *length, dataset->to);
    *length = to - from;
    memmove(*text, *text + from, *length);
    return true;
}

static bool read_ids(LvDataset *dataset, const LvTokenizer *tokenizer, LvText *bytes, LvTokenIds *tokens, LvError *error) {
    int32_t end = tokenizer ? lv_tokenizer_end(tokenizer) : 0;
    for (size_t i = 0; i < dataset->samples.count; i++) {
        const char *name = dataset->samples.data[i].name;
        char *text;
        size_t length;
        bool good = true;
        if (!read_part(dataset, name, &text, &length, error)) return false;
        if (length && bytes->length) lv_text_putc(bytes, 0);
        if (length && tokens->count && end >= 0) lv_vec_push(tokens, end);
        if (!tokenizer) lv_text_append(bytes, text, length);
        else good = add_tokens(tokens, tokenizer, text, length, error) || lv_error_prefix(error, "%s", name);
        free(text);
        if (!good) return false;
        if (bytes->length >= MAX_CORPUS || tokens->count >= MAX_CORPUS)
            return lv_error_set(error, LV_ERROR_UNSUPPORTED, "%s: its text is longer than 2^32 ids", dataset->spec);
    }
    return true;
}

static inline int32_t id_at(const LvDataset *dataset, uint64_t at) {
    return dataset->tokens ? dataset->tokens[at] : dataset->bytes[at];
}

static bool check_vocabulary(const LvDataset *dataset, int64_t vocabulary, LvError *error) {
    for (uint64_t i = 0; vocabulary > 0 && i < dataset->length; i++) {
        if (id_at(dataset, i) < vocabulary) continue;
        lv_error_set(error, LV_ERROR_USAGE, "%s: its text holds the id %d, and the model's vocab is %" PRId64, dataset->spec,
                     id_at(dataset, i), vocabulary);
        return lv_error_hint(error, "all bytes are below 256: --vocab 256; by --tokenizer FILE it is set to the tokenizer's");
    }
    return true;
}

bool lv_dataset_cut(LvDataset *dataset, int64_t length, const LvTokenizer *tokenizer, int64_t vocabulary, LvError *error) {
    LvText bytes = {0};
    LvTokenIds tokens = {0};
    bool good = read_ids(dataset, tokenizer, &bytes, &tokens, error);
    dataset->bytes = (uint8_t *)bytes.data, dataset->tokens = tokens.data;
    dataset->length = tokenizer ? tokens.count : bytes.length;
    if (!good || !check_vocabulary(dataset, vocabulary, error)) return false;
    if (dataset->length < (uint64_t)length) {
        lv_error_set(error, LV_ERROR_USAGE, "%s: its text of %" PRIu64 " %s is shorter than a window of %" PRId64, dataset->spec,
                     dataset->length, tokenizer ? "tokens" : "bytes", length);
        return lv_error_hint(error, "more text, or a model of shorter windows");
    }
    uint64_t step = length > 1 ? (uint64_t)length - 1 : 1;
    dataset->window = length;
    dataset->windows = length > 1 ? (dataset->length - 1) / step : dataset->length;
    size_t size = tokenizer ? sizeof *tokens.data : 1;
    dataset->fingerprint = XXH64(tokenizer ? (void *)tokens.data : (void *)bytes.data, dataset->length * size, size);
    return true;
}

// ---- windows

int64_t lv_dataset_window_length(const LvDataset *dataset) { return dataset->window; }

// floor(i * places / windows), whose product would overflow.
static uint64_t share_begin(const LvDataset *dataset, uint64_t i, uint64_t places) {
    return i * (places / dataset->windows) + i * (places % dataset->windows) / dataset->windows;
}

void lv_dataset_window(const LvDataset *dataset, size_t sample, const uint32_t *draw, int32_t *ids) {
    uint64_t length = (uint64_t)dataset->window, places = dataset->length - length + 1;
    uint64_t at = sample * (length > 1 ? length - 1 : 1);
    if (draw) {
        uint64_t low = share_begin(dataset, sample, places), high = share_begin(dataset, sample + 1, places);
        at = low + (*draw * (high - low) >> 32);
    }
    for (uint64_t i = 0; i < length; i++) ids[i] = id_at(dataset, at + i);
}
