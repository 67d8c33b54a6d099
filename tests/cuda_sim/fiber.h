// Stacks to switch between, without a system call.
#ifndef LV_CUDA_SIM_FIBER_H
#define LV_CUDA_SIM_FIBER_H

#include <stddef.h>

// Saves the stack in use at *from and goes on where `to` was left.
void fiber_switch(void **from, void *to);

// A stack that begins with a call of `run`, which never returns, at the next switch to it. `top` is the end of its memory.
void *fiber_make(char *top, void (*run)(void));

#endif
