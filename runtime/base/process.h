// What the operating system says of this process's memory.
#ifndef LV_PROCESS_H
#define LV_PROCESS_H

#include <stddef.h>
#include <stdint.h>

// Bytes of memory that it has now, and the most that it had so far; 0 where the system does not tell.
int64_t lv_process_resident(void);
int64_t lv_process_peak(void);
// Those of `size` bytes from `at` on, which begin with a page.
size_t lv_process_resident_in(const void *at, size_t size);
// The heap's free memory goes back to the system: after work that took much of it for a while.
void lv_process_give_back(void);

#endif
