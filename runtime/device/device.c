// Opening a device by its name.
#include "device/device.h"

#include <string.h>

bool lv_device_open(const char *name, int threads, LvDevice **device, LvError *error) {
    *device = NULL;
    if (threads < 0) return lv_error_set(error, LV_ERROR_USAGE, "a negative number of threads");
    if (!strcmp(name, "cpu") || !strcmp(name, "auto")) return lv_cpu_open(threads, device, error);
    if (!strcmp(name, "cuda")) {
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "this build has no CUDA backend");
        return lv_error_hint(error, "use --device cpu");
    }
    lv_error_set(error, LV_ERROR_USAGE, "unknown device '%s'", name);
    return lv_error_hint(error, "cpu or auto");
}

void lv_device_close(LvDevice *device) {
    if (device) device->ops->close(device);
}

const char *lv_device_name(const LvDevice *device) {
    return device->description;
}
