// The registers that a called function must keep are pushed, and the stack pointer changes hands.
#include "fiber.h"

#include <stdint.h>
#include <string.h>

#if defined __x86_64__

__asm__(
    ".text\n.globl fiber_switch\n.hidden fiber_switch\n.type fiber_switch, @function\n"
    "fiber_switch:\n"
    "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
    "    popq %rcx\n    jmpq *%rcx\n"  // not `ret`: the processor would expect the place that was left
    ".size fiber_switch, . - fiber_switch\n");

void *fiber_make(char *top, void (*run)(void)) {
    uintptr_t *stack = (uintptr_t *)((uintptr_t)top & ~(uintptr_t)15);
    *--stack = 0;  // where `run` would return to; also makes its stack as a call leaves it
    *--stack = (uintptr_t)run;
    for (int i = 0; i < 6; i++) *--stack = 0;
    return stack;
}

#elif defined __aarch64__

__asm__(
    ".text\n.globl fiber_switch\n.hidden fiber_switch\n.type fiber_switch, %function\n"
    "fiber_switch:\n"
    "    sub sp, sp, #160\n"
    "    stp x19, x20, [sp]\n    stp x21, x22, [sp, #16]\n    stp x23, x24, [sp, #32]\n    stp x25, x26, [sp, #48]\n"
    "    stp x27, x28, [sp, #64]\n    stp x29, x30, [sp, #80]\n"
    "    stp d8, d9, [sp, #96]\n    stp d10, d11, [sp, #112]\n    stp d12, d13, [sp, #128]\n    stp d14, d15, [sp, #144]\n"
    "    mov x9, sp\n    str x9, [x0]\n    mov sp, x1\n"
    "    ldp x19, x20, [sp]\n    ldp x21, x22, [sp, #16]\n    ldp x23, x24, [sp, #32]\n    ldp x25, x26, [sp, #48]\n"
    "    ldp x27, x28, [sp, #64]\n    ldp x29, x30, [sp, #80]\n"
    "    ldp d8, d9, [sp, #96]\n    ldp d10, d11, [sp, #112]\n    ldp d12, d13, [sp, #128]\n    ldp d14, d15, [sp, #144]\n"
    "    add sp, sp, #160\n"
    "    ret\n"
    ".size fiber_switch, . - fiber_switch\n");

void *fiber_make(char *top, void (*run)(void)) {
    char *stack = (char *)((uintptr_t)top & ~(uintptr_t)15) - 160;
    const uintptr_t address = (uintptr_t)run;
    memset(stack, 0, 160);
    memcpy(stack + 88, &address, sizeof address);  // x30
    return stack;
}

#else  // by the C library, at the cost of a system call a switch

#include <stdlib.h>
#include <ucontext.h>

void fiber_switch(void **from, void *to) {
    ucontext_t here;  // lives on the stack that is left, until it is come back to
    *from = &here;
    swapcontext(&here, to);
}

void *fiber_make(char *top, void (*run)(void)) {
    ucontext_t *start = (ucontext_t *)(((uintptr_t)top - sizeof *start) & ~(uintptr_t)63);
    getcontext(start);
    start->uc_stack.ss_size = 48 << 10;  // of SIM_STACK, below what stands here
    start->uc_stack.ss_sp = (char *)start - start->uc_stack.ss_size;
    start->uc_link = NULL;
    makecontext(start, run, 0);
    return start;
}

#endif
