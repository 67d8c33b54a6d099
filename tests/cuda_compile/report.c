// What is wrong with compiled kernels: spills, local memory, more than the architecture gives a block; no tensor-core or
// asynchronous instructions where the text asks for them.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "check.h"

// Most shared memory of a block that asks for it (CUDA C++ Programming Guide, technical specifications per compute capability).
static int most_shared(int sm) {
    switch (sm) {
        case 80: case 87: return 163 << 10;
        case 90: case 100: case 103: return 227 << 10;
        default: return 99 << 10;
    }
}

enum { MOST_STATIC = 48 << 10, MOST_THREADS = 1024, QUARTER_REGISTERS = 16384, ANGLE_BYTES = 32 };

// A multiprocessor has four parts; warps are dealt out to them, and each takes its registers from its part's, by the 256.
static bool registers_fit(const Usage *usage, int threads) {
    int warps = (threads + 31) / 32, each = (usage->registers * 32 + 255) / 256 * 256;
    return (warps + 3) / 4 * each <= QUARTER_REGISTERS;
}

typedef struct {
    const Check *check;
    const char *label;
    LvText *out;
    int faults;
} Report;

// Of the kernel's function `number`, -1: of all of it.
__attribute__((format(printf, 4, 5))) static void fault(Report *r, const Checked *kernel, int number, const char *format, ...) {
    va_list args;
    va_start(args, format);
    lv_text_printf(r->out, "not ok %s.%s", r->label, kernel->name);
    if (number >= 0) lv_text_printf(r->out, "_%d", number);
    lv_text_puts(r->out, ": ");
    lv_text_vprintf(r->out, format, args);
    lv_text_printf(r->out, " (%s)\n", kernel->about);
    va_end(args);
    r->faults++;
}

// sinf and cosf bring large angles into range in a few bytes of local memory, on a path that small ones do not take.
static bool takes_angles(const Checked *kernel) { return strstr(kernel->text, "lv_sin") || strstr(kernel->text, "lv_cos") || strstr(kernel->text, "lv_normal"); }

static void check_function(Report *r, const Checked *kernel, int i) {
    const Usage *u = &kernel->usage[i];
    int shared = u->shared + kernel->dynamic[i];
    if (!u->known) {
        fault(r, kernel, i, "the program has no such function, of %d", kernel->count);
        return;
    }
    if (takes_angles(kernel) && !u->spilled && u->stack <= ANGLE_BYTES) {}
    else if (u->spilled) fault(r, kernel, i, "spills %d bytes", u->spilled);
    else if (u->stack) fault(r, kernel, i, "takes %d bytes of local memory", u->stack);
    else if (u->local) fault(r, kernel, i, "%d instructions read or write local memory", u->local);
    // ptxas lets products wait for each other where it does not see that nothing touches their sums
    if (2 * u->waits > u->products) fault(r, kernel, i, "%d waits for %d products of warp groups", u->waits, u->products);
    if (u->shared > MOST_STATIC) fault(r, kernel, i, "%d bytes of static shared memory", u->shared);
    if (shared > most_shared(r->check->sm)) fault(r, kernel, i, "%d bytes of shared memory", shared);
    if (kernel->threads[i] > MOST_THREADS) fault(r, kernel, i, "%d threads a block", kernel->threads[i]);
    if (!registers_fit(u, kernel->threads[i])) fault(r, kernel, i, "%d registers a thread are too many for blocks of %d", u->registers, kernel->threads[i]);
}

// A kernel whose text calls the wrappers of these instructions must come out with them; of those of 16 bytes, where some operand's rows
// can be read so: of others the compiler leaves that path out.
static void check_instructions(Report *r, const Checked *kernel) {
    Usage sum = {0};
    if (kernel->empty) return;
    for (int i = 0; i < kernel->count; i++) {
        sum.products += kernel->usage[i].products, sum.copies += kernel->usage[i].copies, sum.wide += kernel->usage[i].wide;
    }
    bool products = strstr(kernel->text, "lv_mma_") || strstr(kernel->text, "lv_wgmma_");
    bool narrow = strstr(kernel->text, "lv_copy_async8(") || strstr(kernel->text, "lv_copy_async4(");
    bool copies = narrow || (kernel->lined && strstr(kernel->text, "lv_copy_async"));
    bool wide = strstr(kernel->text, "lv_copy_async16(") || strstr(kernel->text, "float4") || strstr(kernel->text, "uint4");
    if (products && !sum.products) fault(r, kernel, -1, "no products by tensor cores");
    if (copies && !sum.copies) fault(r, kernel, -1, "no asynchronous copies");
    if (products && wide && kernel->lined && !sum.wide) fault(r, kernel, -1, "no loads of 16 bytes");
}

static void print_function(const Checked *kernel, int i, LvText *out) {
    const Usage *u = &kernel->usage[i];
    lv_text_printf(out, "# %s_%d: %d threads, %d registers, %d + %d bytes shared, %d spilled, %d stack; %d products, %d copies, %d wide loads\n",
                   kernel->name, i, kernel->threads[i], u->registers, u->shared, kernel->dynamic[i], u->spilled, u->stack, u->products, u->copies, u->wide);
}

int check_report(const Check *check, const char *label, bool table, LvText *out) {
    Report r = {check, label, out, 0};
    int functions = 0, registers = 0, shared = 0, products = 0;
    for (size_t k = 0; k < check->kernels.count; k++) {
        const Checked *kernel = check->kernels.data[k];
        if (kernel->error) {
            fault(&r, kernel, -1, "%s (%s/%s.sm_%d.cu)", kernel->error, check->folder, kernel->name, check->sm);
            continue;
        }
        for (int i = 0; i < kernel->count; i++) {
            const Usage *u = &kernel->usage[i];
            check_function(&r, kernel, i);
            if (table) print_function(kernel, i, out);
            functions++;
            if (u->registers > registers) registers = u->registers;
            if (u->shared + kernel->dynamic[i] > shared) shared = u->shared + kernel->dynamic[i];
            products += u->products > 0;
        }
        check_instructions(&r, kernel);
    }
    if (!r.faults) {
        lv_text_printf(out, "ok %s: %zu kernels, %d functions, %d with tensor cores, at most %d registers, %.0f KiB shared, nothing spilled (%s)\n", label,
                       check->kernels.count, functions, products, registers, shared / 1024.0, check->disassembler ? "SASS" : "PTX");
    }
    lv_text_printf(out, "# %d compiled now\n", check->compiled);
    return r.faults;
}
