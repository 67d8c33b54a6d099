// Opening a device by its name.
#include "device/device.h"

#include <stdlib.h>
#include <string.h>

// "cuda", "cuda:0", "cuda:1" ...
static bool read_index(const char *name, int *index) {
    char *end = NULL;
    *index = 0;
    if (!strcmp(name, "cuda")) return true;
    if (strncmp(name, "cuda:", 5) || name[5] < '0' || name[5] > '9') return false;
    long number = strtol(name + 5, &end, 10);
    *index = (int)number;
    return !*end && number < 1024;
}

// Why there is no GPU to use is doctor's to tell.
static bool open_any(int threads, LvDevice **device, LvError *error) {
    LvError ignored = {0};
    if (lv_cuda_open(0, device, &ignored)) return true;
    lv_error_clear(&ignored);
    return lv_cpu_open(threads, device, error);
}

bool lv_device_open(const char *name, int threads, LvDevice **device, LvError *error) {
    *device = NULL;
    if (threads < 0) return lv_error_set(error, LV_ERROR_USAGE, "a negative number of threads");
    int index;
    if (!strcmp(name, "cpu")) return lv_cpu_open(threads, device, error);
    if (!strcmp(name, "auto")) return open_any(threads, device, error);
    if (read_index(name, &index)) return lv_cuda_open(index, device, error);
    lv_error_set(error, LV_ERROR_USAGE, "unknown device '%s'", name);
    return lv_error_hint(error, "cpu, cuda, cuda:1 for another GPU than the first, or auto");
}

void lv_device_close(LvDevice *device) {
    if (device) device->ops->close(device);
}

const char *lv_device_name(const LvDevice *device) {
    return device->description;
}

char *lv_device_note(LvDevice *device) {
    char *note = device->note;
    device->note = NULL;
    return note;
}

const char *lv_device_target(const LvDevice *device) {
    return device->target;
}
