// Which op has which template.
#include "codegen/c/templates.h"

bool template_takes(const Node *node) {
    (void)node;
    return false;
}

bool template_print(const Node *node, const char *kernel_name, LvText *out) {
    (void)kernel_name, (void)out;
    if (!template_takes(node)) return false;
    return true;
}
