// Files of codes: see code_file.h. Reading maps the file, so that a data set's codes need no memory
// of ours.
#include "io/code_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/arena.h"
#include "base/text.h"

typedef struct {
    char magic[8];
    uint32_t version, width;
    uint64_t records, codes, vocabulary, key[2], hash;
} Header;
_Static_assert(sizeof(Header) == 64, "the header is 64 bytes in the file");

typedef struct {
    uint32_t good, hash;
} Tail;

static const char magic[8] = "LVCODES1";
enum { VERSION = 1, BUFFERED = 1 << 20 };

struct LvCodeFile {
    LvCodeShape shape;
    Header header;
    const char *data;  // the mapped file
    size_t bytes;
};

struct LvCodeWriter {
    LvCodeShape shape;
    Header header;
    char *path, *part;
    FILE *file;
    int64_t done;
    char *record;
};

static Header make_header(const LvCodeShape *s) {
    Header h = {.version = VERSION,
                .width = s->vocabulary <= 65536 ? 2 : 4,
                .records = (uint64_t)s->records,
                .codes = (uint64_t)s->codes,
                .vocabulary = (uint64_t)s->vocabulary,
                .key = {s->key[0], s->key[1]}};
    memcpy(h.magic, magic, sizeof magic);
    h.hash = XXH3_64bits(&h, offsetof(Header, hash));
    return h;
}

static size_t codes_bytes(const Header *h) {
    return (size_t)h->codes * h->width;
}

static size_t record_bytes(const Header *h) {
    return codes_bytes(h) + sizeof(Tail);
}

static uint32_t hash_record(const Header *h, int64_t number, const char *record) {
    return (uint32_t)XXH3_64bits_withSeed(record, codes_bytes(h) + sizeof(uint32_t),
                                          h->hash ^ (uint64_t)number);
}

static bool record_is_whole(const Header *h, int64_t number, const char *record) {
    Tail tail;
    memcpy(&tail, record + codes_bytes(h), sizeof tail);
    return tail.good <= 1 && tail.hash == hash_record(h, number, record);
}

// ---- reading

static bool say_foreign(const Header *got, const Header *want, LvError *error) {
    if (memcmp(got->magic, magic, sizeof magic))
        return lv_error_set(error, LV_ERROR_FORMAT, "it is no file of codes");
    if (got->hash != XXH3_64bits(got, offsetof(Header, hash)))
        return lv_error_set(error, LV_ERROR_FORMAT, "its header is damaged");
    if (got->version != want->version)
        return lv_error_set(error, LV_ERROR_FORMAT,
                            "it has version %u; this program reads version %d", got->version,
                            VERSION);
    return lv_error_set(error, LV_ERROR_FORMAT,
                        "it was made from other pictures or by another picture tokenizer");
}

static bool check_file(const LvCodeFile *f, LvError *error) {
    Header got;
    size_t each = record_bytes(&f->header);
    if (f->bytes < sizeof got) return lv_error_set(error, LV_ERROR_FORMAT, "it is cut off");
    memcpy(&got, f->data, sizeof got);
    if (memcmp(&got, &f->header, sizeof got)) return say_foreign(&got, &f->header, error);
    if (f->bytes != sizeof got + each * (size_t)f->shape.records)
        return lv_error_set(error, LV_ERROR_FORMAT, "it is cut off");
    for (int64_t i = 0; i < f->shape.records; i++) {
        if (!record_is_whole(&f->header, i, f->data + sizeof got + (size_t)i * each))
            return lv_error_set(error, LV_ERROR_FORMAT, "record %lld is damaged", (long long)i);
    }
    return true;
}

bool lv_code_file_open(const char *path, const LvCodeShape *shape, LvCodeFile **out,
                       LvError *error) {
    struct stat info;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return lv_error_system(error, "%s", path);
    LvCodeFile *f = lv_calloc(1, sizeof *f);
    f->shape = *shape;
    f->header = make_header(shape);
    bool good = fstat(descriptor, &info) == 0 && S_ISREG(info.st_mode);
    if (!good) lv_error_set(error, LV_ERROR_FORMAT, "it is no file");
    if (good && info.st_size > 0) {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        good = data != MAP_FAILED || lv_error_system(error, "cannot be mapped");
        if (good) f->data = data, f->bytes = (size_t)info.st_size;
    }
    close(descriptor);
    if (good && check_file(f, error)) {
        *out = f;
        return true;
    }
    lv_error_prefix(error, "%s", path);
    lv_code_file_close(f);
    return false;
}

void lv_code_file_close(LvCodeFile *f) {
    if (!f) return;
    if (f->data) munmap((void *)f->data, f->bytes);
    free(f);
}

bool lv_code_file_get(const LvCodeFile *f, int64_t number, int32_t *codes) {
    const char *record = f->data + sizeof(Header) + (size_t)number * record_bytes(&f->header);
    Tail tail;
    memcpy(&tail, record + codes_bytes(&f->header), sizeof tail);
    for (int64_t i = 0; f->header.width == 4 && i < f->shape.codes; i++)
        memcpy(&codes[i], record + 4 * i, 4);
    for (int64_t i = 0; f->header.width == 2 && i < f->shape.codes; i++) {
        uint16_t code;
        memcpy(&code, record + 2 * i, 2);
        codes[i] = code;
    }
    return tail.good;
}

// ---- writing

// Of the makers of one file one holds the lock; another waits, and then goes on with it or finds
// that it has its own name now.
static bool lock_part(const LvCodeWriter *w, int descriptor, const volatile sig_atomic_t *stop,
                      LvError *error) {
    while (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR) continue;
        if (errno != EWOULDBLOCK)
            return true;  // a file system without locks: two makers write the same bytes
        if (stop && *stop)
            return lv_error_set(error, LV_ERROR_INTERRUPTED,
                                "stopped while another process makes %s", w->path);
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    return true;
}

static bool was_renamed(const LvCodeWriter *w, int descriptor) {
    struct stat ours, named;
    return fstat(descriptor, &ours) == 0 &&
           (stat(w->part, &named) != 0 || named.st_ino != ours.st_ino ||
            named.st_dev != ours.st_dev);
}

// The whole records of an unfinished file stay; all else of it goes.
static bool take_up(LvCodeWriter *w, int descriptor, LvError *error) {
    size_t each = record_bytes(&w->header);
    Header got;
    FILE *file = fdopen(descriptor, "r+");
    if (!file) return lv_error_system(error, "%s", w->part);
    w->file = file;
    setvbuf(file, NULL, _IOFBF, BUFFERED);
    if (fread(&got, sizeof got, 1, file) == 1 && !memcmp(&got, &w->header, sizeof got)) {
        while (w->done < w->shape.records && fread(w->record, each, 1, file) == 1 &&
               record_is_whole(&w->header, w->done, w->record))
            w->done++;
    }
    off_t end = w->done ? (off_t)(sizeof got + (size_t)w->done * each) : 0;
    if (fseeko(file, end, SEEK_SET) != 0 || ftruncate(descriptor, end) != 0)
        return lv_error_system(error, "%s", w->part);
    if (end == 0 && fwrite(&w->header, sizeof w->header, 1, file) != 1)
        return lv_error_system(error, "%s", w->part);
    return true;
}

bool lv_code_writer_open(const char *path, const LvCodeShape *shape,
                         const volatile sig_atomic_t *stop, LvCodeWriter **out, LvError *error) {
    LvCodeWriter *w = lv_calloc(1, sizeof *w);
    LvText part = {0};
    lv_text_printf(&part, "%s.part", path);
    w->shape = *shape;
    w->header = make_header(shape);
    w->path = lv_strdup(path);
    w->part = part.data;
    w->record = lv_calloc(1, record_bytes(&w->header));
    int descriptor = open(w->part, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    bool good = descriptor >= 0 || lv_error_system(error, "cannot write '%s'", w->part);
    good = good && lock_part(w, descriptor, stop, error);
    bool made = good && was_renamed(w, descriptor);
    good = good && (made || take_up(w, descriptor, error));
    if (descriptor >= 0 && !w->file) close(descriptor);
    *out = good && !made ? w : NULL;
    if (!*out) lv_code_writer_close(w);
    return good;
}

int64_t lv_code_writer_done(const LvCodeWriter *w) {
    return w->done;
}

bool lv_code_writer_add(LvCodeWriter *w, const int32_t *codes, LvError *error) {
    Tail tail = {.good = codes != NULL};
    size_t bytes = codes_bytes(&w->header);
    memset(w->record, 0, bytes);
    for (int64_t i = 0; codes && i < w->shape.codes; i++) {
        uint16_t narrow = (uint16_t)codes[i];
        if (codes[i] < 0 || codes[i] >= w->shape.vocabulary)
            return lv_error_set(error, LV_ERROR_FORMAT, "code %d is not below %lld", codes[i],
                                (long long)w->shape.vocabulary);
        if (w->header.width == 2)
            memcpy(w->record + 2 * i, &narrow, 2);
        else
            memcpy(w->record + 4 * i, &codes[i], 4);
    }
    memcpy(w->record + bytes, &tail, sizeof tail);
    tail.hash = hash_record(&w->header, w->done, w->record);
    memcpy(w->record + bytes, &tail, sizeof tail);
    if (fwrite(w->record, record_bytes(&w->header), 1, w->file) != 1)
        return lv_error_system(error, "cannot write '%s'", w->part);
    w->done++;
    return true;
}

bool lv_code_writer_finish(LvCodeWriter *w, LvError *error) {
    if (fflush(w->file) == 0 && fsync(fileno(w->file)) == 0 && rename(w->part, w->path) == 0)
        return true;
    return lv_error_system(error, "cannot write '%s'", w->path);
}

void lv_code_writer_close(LvCodeWriter *w) {
    if (!w) return;
    if (w->file) fclose(w->file);
    free(w->path);
    free(w->part);
    free(w->record);
    free(w);
}
