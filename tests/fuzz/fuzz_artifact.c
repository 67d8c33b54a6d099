// lv_plan_decode over any bytes: no crash, no leak, and a plan that is taken encodes again. The checksum is put right first,
// or random bytes would never get past it.
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/plan_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    LvPlan *plan = NULL;
    LvError error = {0};
    unsigned char *copy = malloc(size + 1);
    memcpy(copy, data, size);
    if (size >= 40) {
        uint64_t json = 0, constants = 0;
        for (int i = 7; i >= 0; i--) constants = constants << 8 | copy[24 + i];
        if (constants > size - 40) constants = 0;
        json = size - 40 - constants;
        for (int i = 0; i < 8; i++) copy[16 + i] = (unsigned char)(json >> 8 * i), copy[24 + i] = (unsigned char)(constants >> 8 * i);
        XXH64_state_t *state = XXH64_createState();
        XXH64_reset(state, 0);
        XXH64_update(state, copy, 32);
        XXH64_update(state, copy + 40, size - 40);
        uint64_t hash = XXH64_digest(state);
        XXH64_freeState(state);
        for (int i = 0; i < 8; i++) copy[32 + i] = (unsigned char)(hash >> 8 * i);
    }
    if (lv_plan_decode(copy, size, &plan, &error)) {
        LvText text = {0};
        if (!lv_plan_encode(plan, &text, &error)) abort();
        lv_text_free(&text);
        lv_plan_destroy(plan);
    }
    lv_error_clear(&error);
    free(copy);
    return 0;
}
