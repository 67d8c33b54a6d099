// Reading what the tools say: ptxas' lines (--ptxas-options=-v), nvdisasm's listing, PTX.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

Usage *usage_of(Checked *const *kernels, int count, const char *function, size_t length) {
    for (int k = 0; k < count; k++) {
        size_t name = strlen(kernels[k]->name);
        if (length <= name + 1 || strncmp(function, kernels[k]->name, name) || function[name] != '_') continue;
        char *end;
        long number = strtol(function + name + 1, &end, 10);
        if (end == function + length && number >= 0 && number < kernels[k]->count) return &kernels[k]->usage[number];
    }
    return NULL;
}

// The next line of a text, without its end; false at the end of the text.
static bool next_line(const char **at, const char **line, size_t *length) {
    if (!**at) return false;
    const char *end = strchr(*at, '\n');
    *line = *at;
    *length = end ? (size_t)(end - *at) : strlen(*at);
    *at += *length + (end != NULL);
    return true;
}

static const char *find(const char *line, size_t length, const char *what) { return memmem(line, length, what, strlen(what)); }

// The number before `what`: "24 bytes stack frame"
static int number_before(const char *line, size_t length, const char *what) {
    const char *at = find(line, length, what);
    if (!at) return 0;
    while (at > line && at[-1] == ' ') at--;
    while (at > line && at[-1] >= '0' && at[-1] <= '9') at--;
    return atoi(at);
}

void usage_from_log(const char *log, Checked *const *kernels, int count) {
    static const char head[] = "Compiling entry function '";
    const char *line;
    size_t length;
    Usage *usage = NULL;
    while (next_line(&log, &line, &length)) {
        const char *name = find(line, length, head);
        if (name) {
            name += strlen(head);
            usage = usage_of(kernels, count, name, strcspn(name, "'"));
        }
        if (!usage) continue;
        if (find(line, length, "bytes stack frame")) {
            usage->stack = number_before(line, length, " bytes stack frame");
            usage->spilled = number_before(line, length, " bytes spill stores") + number_before(line, length, " bytes spill loads");
        } else if (find(line, length, " registers")) {
            usage->registers = number_before(line, length, " registers");
            usage->shared = number_before(line, length, " bytes smem");
            usage->known = true;
        }
    }
}

// ---- instructions

static bool begins(const char *at, const char *with) { return !strncmp(at, with, strlen(with)); }

// "        /*0120*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;"
static void count_sass(const char *line, size_t length, Usage *usage) {
    const char *at = find(line, length, "*/");
    if (!at) return;
    at += 2 + strspn(at + 2, " \t");
    if (*at == '@') at += strcspn(at, " "), at += strspn(at, " ");  // predicate
    size_t word = strcspn(at, " ;\n");
    bool wide = find(at, word, ".128") != NULL;
    if (begins(at, "HMMA") || begins(at, "HGMMA") || begins(at, "UTCHMMA")) usage->products++;
    if (begins(at, "WARPGROUP.DEPBAR")) usage->waits++;
    if (begins(at, "LDGSTS") || begins(at, "UBLKCP") || begins(at, "UTMALDG")) usage->copies++;
    if ((begins(at, "LDG.") || begins(at, "LDGSTS")) && wide) usage->wide++;
    if (begins(at, "LDL") || begins(at, "STL")) usage->local++;
}

void usage_from_sass(const char *listing, Checked *const *kernels, int count) {
    static const char head[] = ".section\t.text.";
    const char *line;
    size_t length;
    Usage *usage = NULL;
    while (next_line(&listing, &line, &length)) {
        const char *name = find(line, length, head);
        if (name) {
            name += strlen(head);
            usage = usage_of(kernels, count, name, strcspn(name, ",\n"));
        } else if (usage) {
            count_sass(line, length, usage);
        }
    }
}

// "ld.global.nc.v4.f32 {...}" and "ld.global.v2.b64" move 16 bytes.
static void count_ptx(const char *line, size_t length, Usage *usage) {
    const char *at = line + strspn(line, " \t{");
    if (*at == '@') at += strcspn(at, " "), at += strspn(at, " ");
    size_t word = strcspn(at, " \t\n");
    bool loads = begins(at, "ld.global"), copies = begins(at, "cp.async.cg.") || begins(at, "cp.async.ca.");
    bool wide = find(at, word, ".v4.") || (find(at, word, ".v2.") && find(at, word, "64"));
    if (begins(at, "mma.sync") || begins(at, "wgmma.mma_async")) usage->products++;
    if (begins(at, "wgmma.wait_group")) usage->waits++;
    if (copies) usage->copies++;
    if ((loads && wide) || (copies && find(at, length - (size_t)(at - line), ", 16"))) usage->wide++;
}

void usage_from_ptx(const char *ptx, Checked *const *kernels, int count) {
    static const char head[] = ".entry ";
    const char *line;
    size_t length;
    Usage *usage = NULL;
    while (next_line(&ptx, &line, &length)) {
        const char *name = find(line, length, head);
        if (name) {
            name += strlen(head);
            usage = usage_of(kernels, count, name, strcspn(name, "(\n"));
        } else if (find(line, length, ".func")) {
            usage = NULL;  // a helper that was not inlined: its instructions are nobody's
        } else if (usage) {
            count_ptx(line, length, usage);
        }
    }
}
