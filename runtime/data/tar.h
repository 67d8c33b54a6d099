// Lists the members of a tar file: ustar, pax (path and size), GNU long names, base-256 sizes. Reads headers
// only. Hostile bytes: checksums, sizes and names are checked; nothing outside the file is ever asked for.
#ifndef LV_DATA_TAR_H
#define LV_DATA_TAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct {
    const char *name;  // valid during the call
    uint64_t offset, size;  // of the content; offset + size is within the file
} LvTarMember;

typedef struct {
    void *context;
    uint64_t length;
    bool (*read)(void *context, uint64_t offset, void *out, size_t size);  // all of it, or false
} LvTarInput;

// Calls `visit` for each regular file, in order; stops when it returns false. False and an error at the first damage:
// the members before it have been visited and are whole.
bool lv_tar_list(const LvTarInput *input, bool (*visit)(void *user, const LvTarMember *member), void *user, LvError *error);

LvTarInput lv_tar_memory(const void *bytes, size_t length, const void **holder);  // *holder keeps the bytes' address: let it live as long

#endif
