// lv_yaml_parse over any bytes: what it gives must be closed text, what it refuses must have one line to say.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "io/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    LvYaml yaml;
    LvError error = {0};
    if (lv_yaml_parse((const char *)data, size, "fuzz.yaml", &yaml, &error)) {
        for (size_t i = 0; i < yaml.count; i++) {
            if (!*yaml.items[i].key || yaml.items[i].line < 1) abort();
            if (yaml.items[i].value && strlen(yaml.items[i].value) > 1 << 20) abort();
        }
        lv_yaml_free(&yaml);
    } else if (!error.message) {
        abort();
    }
    lv_error_clear(&error);
    return 0;
}
