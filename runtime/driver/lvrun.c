// lvrun: one table of subcommands.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "command.h"

static const struct {
    const char *name;
    Command *run;
    const char *about;
} commands[] = {
    {"train", cmd_train, "train a model on pictures or text; run again, it goes on"},
    {"eval", cmd_eval, "losses and PSNR over a data set"},
    {"reconstruct", cmd_reconstruct, "pictures through a model and back, as PNG"},
    {"encode", cmd_encode, "pictures to codes"},
    {"decode", cmd_decode, "codes to pictures"},
    {"tokenizer", cmd_tokenizer, "make a tokenizer of captions; texts to ids and back"},
    {"sample", cmd_sample, "pictures from text"},
    {"caption", cmd_caption, "text from pictures"},
    {"generate", cmd_generate, "text that a language model writes"},
    {"info", cmd_info, "what a model, an artifact or a checkpoint holds"},
    {"call", cmd_call, "run an entry of a model on tensors from a file"},
    {"bench", cmd_bench, "time an entry: step, memory, compiling"},
    {"doctor", cmd_doctor, "what this machine has, and what is missing"},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

int command_fail(LvError *error) {
    int code = lv_error_exit_code(error);
    if (error->kind == LV_ERROR_ELSEWHERE) return lv_error_clear(error), code;
    fprintf(stderr, "lvrun: error: %s\n", error->message ? error->message : "failed");
    if (error->hint) fprintf(stderr, "  hint: %s\n", error->hint);
    lv_error_clear(error);
    return code ? code : 1;
}

void command_close_device(LvDevice *device) {
    char *note = device ? lv_device_note(device) : NULL;
    if (note) fprintf(stderr, "lvrun: note: %s\n", note);
    free(note);
    lv_device_close(device);
}

static void print_usage(FILE *file) {
    fprintf(file, "usage: lvrun COMMAND [arguments]; lvrun help COMMAND tells more\n\n");
    for (int i = 0; i < COMMANDS; i++) fprintf(file, "  %-12s %s\n", commands[i].name, commands[i].about);
    fprintf(
        file,
        "\nMODEL is a .lv file, an artifact (.lvm) or a checkpoint (.safetensors). Exit codes: 0 done, 1 the work failed,\n"
        "2 bad usage. Kernels are compiled by the system's cc and kept in $LV_CACHE_DIR (default ~/.cache/lverse),\n"
        "at most $LV_CACHE_SIZE bytes of them (default 2G).\n");
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_usage(stderr);
        return 2;
    }
    char *help[] = {argv[0], argv[1], (char *)(uintptr_t)"--help", NULL};
    if (!strcmp(argv[1], "help") && argc > 2) {  // help X is X --help
        help[1] = argv[2];
        argv = help;
        argc = 3;
    } else if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
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
