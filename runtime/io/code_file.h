// Codes of many pictures in a file: what a frozen picture tokenizer makes of a data set, kept so
// that it is made once.
//
//   64 bytes    magic "LVCODES1", u32 version, u32 bytes of a code (2 or 4), u64 records, u64 codes
//   of a record, u64 vocabulary,
//               128 bits of key, u64 hash of the bytes before
//   a record    its codes, u32 1 (0: the picture could not be read, and the codes are zero), u32
//   hash of all that, of the
//               record's number and of the header
//
// A file is made under the name FILE.part, record by record, and gets its own name when it is whole
// and synced. What a killed process leaves is gone on from: each record tells by itself whether it
// is whole. A file with another key is another file.
#ifndef LV_IO_CODE_FILE_H
#define LV_IO_CODE_FILE_H

#include <signal.h>
#include <stdint.h>

#include "base/error.h"

typedef struct {
    uint64_t key[2];  // hash of everything that the codes were made from
    int64_t records, codes;
    int64_t vocabulary;  // codes are below it
} LvCodeShape;

typedef struct LvCodeFile LvCodeFile;
typedef struct LvCodeWriter LvCodeWriter;

// Opens a whole file; every record is checked. False: absent (LV_ERROR_IO), torn, altered or of
// another shape (LV_ERROR_FORMAT).
bool lv_code_file_open(const char *path, const LvCodeShape *shape, LvCodeFile **file,
                       LvError *error);
void lv_code_file_close(LvCodeFile *file);
bool lv_code_file_get(const LvCodeFile *file, int64_t record,
                      int32_t *codes);  // false: its picture could not be read

// Waits while another process makes the same file, unless `stop` is set meanwhile; *writer NULL:
// that one has made it.
bool lv_code_writer_open(const char *path, const LvCodeShape *shape,
                         const volatile sig_atomic_t *stop, LvCodeWriter **writer, LvError *error);
int64_t lv_code_writer_done(
    const LvCodeWriter *writer);  // records that are there: the next one's number
bool lv_code_writer_add(LvCodeWriter *writer, const int32_t *codes,
                        LvError *error);  // NULL: its picture could not be read
bool lv_code_writer_finish(LvCodeWriter *writer, LvError *error);  // syncs, renames
void lv_code_writer_close(LvCodeWriter *writer);  // what is unfinished stays, to be gone on from

#endif
