// This process's memory: see process.h.
#include "base/process.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// A line "VmRSS:   1234 kB" of the process's own file.
static int64_t status_bytes(const char *field) {
    char line[256];
    int64_t found = 0;
    size_t length = strlen(field);
    FILE *file = fopen("/proc/self/status", "r");
    while (file && !found && fgets(line, sizeof line, file)) {
        if (!strncmp(line, field, length) && line[length] == ':') found = strtoll(line + length + 1, NULL, 10) * 1024;
    }
    if (file) fclose(file);
    return found;
}

int64_t lv_process_resident(void) { return status_bytes("VmRSS"); }
int64_t lv_process_peak(void) { return status_bytes("VmHWM"); }

size_t lv_process_resident_in(const void *at, size_t size) {
    enum { PAGES = 1 << 14 };
    unsigned char there[PAGES];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), all = (size + page - 1) / page, count = 0;
    for (size_t first = 0; first < all; first += PAGES) {
        size_t pages = all - first < PAGES ? all - first : PAGES;
        if (mincore((char *)(uintptr_t)at + first * page, pages * page, there) != 0) break;
        for (size_t i = 0; i < pages; i++) count += there[i] & 1;
    }
    return count * page;
}

void lv_process_give_back(void) { malloc_trim(0); }
