// Ranks by mpirun: see launch.h.
#include "comm/launch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/text.h"
#include "base/vec.h"

typedef LV_VEC(char *) Words;

// A signal handler can reach nothing but globals.
static volatile sig_atomic_t child;

static void pass_on(int number) {
    (void)number;
    if (child > 0) kill((pid_t)child, SIGUSR1);
}

static bool find_program(const char *name, LvText *path) {
    const char *at = getenv("PATH");
    while (at && *at) {
        size_t length = strcspn(at, ":");
        path->length = 0;
        lv_text_printf(path, "%.*s/%s", (int)length, at, name);
        if (length && access(path->data, X_OK) == 0) return true;
        at += length + (at[length] == ':');
    }
    return false;
}

// By the first line of --version: "mpirun (Open MPI) 4.1.4".
static bool is_open_mpi(const char *path) {
    LvText command = {0};
    char line[128] = "";
    lv_text_printf(&command, "'%s' --version 2>/dev/null", path);
    FILE *pipe = strchr(path, '\'') ? NULL : popen(command.data, "r");
    if (pipe && !fgets(line, sizeof line, pipe)) line[0] = 0;
    if (pipe) pclose(pipe);
    lv_text_free(&command);
    return strstr(line, "Open MPI");
}

static void add(Words *words, LvArena *arena, const char *word) { lv_vec_push(words, lv_arena_strdup(arena, word)); }

static void make_command(const char *path, int ranks, char *const *argv, LvArena *arena, Words *words) {
    add(words, arena, path);
    if (is_open_mpi(path)) {
        // All on this machine, whatever a batch system gave, each on any of its processors; threads are shared out by lvrun.
        static const char *const options[] = {"--quiet", "--bind-to", "none", "--mca", "rmaps_base_oversubscribe", "1"};
        for (size_t i = 0; i < sizeof options / sizeof *options; i++) add(words, arena, options[i]);
        add(words, arena, "--host");
        lv_vec_push(words, lv_arena_printf(arena, "localhost:%d", ranks));
        setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 0);  // a container's root: it runs nothing that it did not run already
        setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
    }
    add(words, arena, "-n");
    lv_vec_push(words, lv_arena_printf(arena, "%d", ranks));
    for (int i = 0; argv[i]; i++) lv_vec_push(words, argv[i]);
    lv_vec_push(words, NULL);
}

// A rank that fails says why itself; one that is ended cannot.
static bool report_signal(int number, LvError *error) {
    lv_error_set(error, LV_ERROR_DEVICE, "a rank was ended by signal %d (%s), and the others with it", number, strsignal(number));
    if (number == SIGKILL) return lv_error_hint(error, "the system may have been out of memory: fewer ranks, or a smaller --batch-size");
    return false;
}

static bool run(char **words, int *code, LvError *error) {
    struct sigaction action = {.sa_handler = pass_on, .sa_flags = SA_RESTART};
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) return lv_error_set(error, LV_ERROR_IO, "cannot start %s: %s", words[0], strerror(errno));
    if (pid == 0) {
        setpgid(0, 0);  // the terminal's Ctrl-C comes to us alone
        execv(words[0], words);
        _exit(127);
    }
    child = pid;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) return lv_error_set(error, LV_ERROR_IO, "waiting for %s: %s", words[0], strerror(errno));
    }
    *code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    if (*code == 127) return lv_error_set(error, LV_ERROR_IO, "%s cannot be run", words[0]);
    return *code <= 128 || report_signal(*code - 128, error);
}

bool lv_comm_launch(int ranks, char *const *argv, int *code, LvError *error) {
    LvText path = {0};
    LvArena *arena = lv_arena_create();
    Words words = {0};
    bool found = find_program("mpirun", &path) || find_program("mpiexec", &path), good = found;
    if (found) {
        make_command(path.data, ranks, argv, arena, &words);
        good = run(words.data, code, error);
    } else {
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "%d ranks are started by mpirun, and there is none on the PATH", ranks);
        lv_error_hint(error, "apt install openmpi-bin");
    }
    lv_vec_free(&words);
    lv_arena_destroy(arena);
    lv_text_free(&path);
    return good;
}
