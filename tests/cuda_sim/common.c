#include "common.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int sim_setting(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value && *value ? (int)strtol(value, NULL, 0) : otherwise;
}

typedef struct {
    char function[64];
    long at, calls;
    int code;
} Trouble;

static Trouble troubles[32];
static int trouble_count;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void read_troubles(void) {
    const char *at = getenv("LV_CUDA_SIM_FAIL");
    while (at && *at && trouble_count < 32) {
        Trouble *t = &troubles[trouble_count];
        const int fields = sscanf(at, "%63[^:,]:%ld:%d", t->function, &t->at, &t->code);
        if (fields >= 1) {
            if (fields < 2) t->at = 1;
            trouble_count++;
        }
        at = strchr(at, ',');
        if (at) at++;
    }
}

int sim_trouble(const char *function, int usual) {
    int code = 0;
    pthread_once(&once, read_troubles);
    if (!trouble_count) return 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < trouble_count; i++) {
        Trouble *t = &troubles[i];
        if (!strcmp(t->function, function) && ++t->calls == t->at) code = t->code ? t->code : usual;
    }
    pthread_mutex_unlock(&lock);
    return code;
}

void *sim_of_driver(const char *function) {
    static void *driver;
    if (!driver) driver = dlopen("libcuda.so.1", RTLD_NOW);
    return driver ? dlsym(driver, function) : NULL;
}

uint64_t sim_hash(const void *data, size_t bytes, uint64_t seed) {  // FNV-1a, eight bytes at a time, then mixed
    const unsigned char *p = data;
    uint64_t h = seed ^ 0xCBF29CE484222325u, word;
    for (; bytes >= 8; p += 8, bytes -= 8) {
        memcpy(&word, p, 8);
        h = (h ^ word) * 0x9E3779B97F4A7C15u;
        h ^= h >> 32;
    }
    for (; bytes; p++, bytes--) h = (h ^ *p) * 0x100000001B3u;
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCDu;
    return h ^ h >> 33;
}
