// The tar reader: whatever the bytes, an error or members that lie inside them. Each header's checksum is made right
// first, else nearly all input would stop there.
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    const uint8_t *bytes;
    size_t size, sum;
} Input;

static bool touch(void *user, const LvTarMember *member) {
    Input *input = user;
    if (member->offset > input->size || member->size > input->size - member->offset) abort();
    input->sum += strlen(member->name);
    if (member->size) input->sum += input->bytes[member->offset] + input->bytes[member->offset + member->size - 1];
    return true;
}

static void seal(uint8_t *header) {
    unsigned sum = 8 * ' ';
    for (int i = 0; i < 512; i++) sum += i >= 148 && i < 156 ? 0 : header[i];
    if (!sum || sum == 8 * ' ') return;  // a block of zeros stays the end
    char text[9];
    snprintf(text, sizeof text, "%06o", sum & 0777777u);
    memcpy(header + 148, text, 7);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) return 0;
    if (size) memcpy(copy, data, size);
    for (size_t at = 0; at + 512 <= size; at += 512) {
        if (!(data[at] & 1)) seal(copy + at);  // and some are left as they are
    }
    const void *holder;
    Input input = {copy, size, 0};
    LvTarInput tar = lv_tar_memory(copy, size, &holder);
    LvError error = {0};
    if (!lv_tar_list(&tar, touch, &input, &error) && !error.message) abort();
    lv_error_clear(&error);
    free(copy);
    return 0;
}
