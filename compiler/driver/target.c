// Targets by name.
#include "driver/target.h"

#include <stdlib.h>
#include <string.h>

bool target_parse(const char *device, Target *target, LvError *error) {
    *target = (Target){0};
    if (!device || !strcmp(device, "cpu") || !strcmp(device, "auto")) return true;
    target->cuda = true, target->sm = TARGET_OLDEST_SM;
    if (!strcmp(device, "cuda")) return true;
    if (!strncmp(device, "cuda:sm_", 8)) {
        char *end;
        long sm = strtol(device + 8, &end, 10);
        if (end != device + 8 && !*end && sm >= TARGET_OLDEST_SM && sm < 1000) {
            target->sm = (int)sm;
            return true;
        }
        if (end != device + 8 && !*end && sm > 0 && sm < TARGET_OLDEST_SM) {
            lv_error_set(error, LV_ERROR_UNSUPPORTED, "GPUs older than sm_%d are not supported, '%s' is one", TARGET_OLDEST_SM, device);
            return false;
        }
    }
    lv_error_set(error, LV_ERROR_USAGE, "unknown device '%s'", device);
    return lv_error_hint(error, "cpu, auto, cuda, or cuda:sm_90 for an architecture");
}
