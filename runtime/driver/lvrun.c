// lvrun: one table of subcommands.
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "command.h"

static const struct {
    const char *name;
    Command *run;
    const char *about;
} commands[] = {
    {"call", cmd_call, "run an entry of a model on tensors from a file"},
    {"bench", cmd_bench, "time an entry: step, memory, compiling"},
    {"doctor", cmd_doctor, "what this machine has, and what is missing"},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

int command_fail(LvError *error) {
    int code = lv_error_exit_code(error);
    fprintf(stderr, "lvrun: error: %s\n", error->message ? error->message : "failed");
    if (error->hint) fprintf(stderr, "  hint: %s\n", error->hint);
    lv_error_clear(error);
    return code ? code : 1;
}

static void print_usage(FILE *file) {
    fprintf(file, "usage: lvrun COMMAND [arguments]; lvrun COMMAND --help tells more\n\n");
    for (int i = 0; i < COMMANDS; i++) fprintf(file, "  %-12s %s\n", commands[i].name, commands[i].about);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_usage(stderr);
        return 2;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help")) {
        print_usage(stdout);
        return 0;
    }
    const char *names[COMMANDS];
    for (int i = 0; i < COMMANDS; i++) {
        if (!strcmp(argv[1], commands[i].name)) return commands[i].run(argc - 1, argv + 1);
        names[i] = commands[i].name;
    }
    LvError error = {0};
    const char *near = lv_nearest_name(argv[1], names, COMMANDS);
    lv_error_set(&error, LV_ERROR_USAGE, "unknown command '%s'", argv[1]);
    if (near) lv_error_hint(&error, "did you mean '%s'?", near);
    else lv_error_hint(&error, "lvrun --help lists the commands");
    return command_fail(&error);
}
