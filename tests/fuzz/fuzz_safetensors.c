// lv_safetensors_parse over any bytes; every byte of every tensor that is offered is read.
#include <string.h>

#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    LvTensorFile *file = NULL;
    LvError error = {0};
    volatile unsigned sum = 0;
    if (lv_safetensors_parse(data, size, &file, &error)) {
        for (int i = 0; i < lv_safetensors_count(file); i++) {
            const LvTensor *t = lv_safetensors_at(file, i);
            for (size_t k = 0; k < t->bytes; k++) sum += ((const unsigned char *)t->data)[k];
        }
        lv_safetensors_free(file);
    }
    lv_error_clear(&error);
    return 0;
}
