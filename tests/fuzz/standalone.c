// Stands in for libFuzzer where clang is not installed: runs a target on every file of the corpus, then on mutations of them
// until the time is over. No coverage feedback; the order is fixed by the seed.
//
//   fuzz_X [-max_total_time=SECONDS] [-seed=N] [-max_len=BYTES] FILE-or-FOLDER...
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

typedef struct {
    uint8_t *data;
    size_t size;
} Sample;

typedef struct {
    Sample *samples;
    size_t count;
    size_t max_length;
    uint64_t random;
    uint8_t *current;  // the input under way, max_length bytes
    size_t current_size;
} Fuzzer;

static Fuzzer fuzzer;  // global for the signal handler, which saves the input that crashed

static uint64_t next_random(void) {
    uint64_t x = fuzzer.random += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

static size_t below(size_t limit) {
    return limit ? (size_t)(next_random() % limit) : 0;
}

static void save_input(void) {
    FILE *file = fopen("crash-input", "wb");
    if (!file) return;
    fwrite(fuzzer.current, 1, fuzzer.current_size, file);
    fclose(file);
}

static void on_signal(int signal) {
    static const char said[] = "standalone: crashed; the input is in ./crash-input\n";
    save_input();
    if (write(2, said, sizeof said - 1) < 0) _exit(1);
    _exit(128 + signal);
}

// Called by the sanitizers before they exit.
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void add_file(const char *path, size_t size) {
    FILE *file = fopen(path, "rb");
    if (!file) return;
    if (size > fuzzer.max_length) size = fuzzer.max_length;
    Sample sample = {malloc(size + 1), 0};
    if (sample.data) sample.size = fread(sample.data, 1, size, file);
    fclose(file);
    Sample *more = realloc(fuzzer.samples, (fuzzer.count + 1) * sizeof *more);
    if (!sample.data || !more) exit(1);
    fuzzer.samples = more;
    fuzzer.samples[fuzzer.count++] = sample;
}

static void add_path(const char *path) {
    struct stat info;
    if (stat(path, &info)) return;
    if (S_ISREG(info.st_mode)) {
        add_file(path, (size_t)info.st_size);
        return;
    }
    struct dirent **entries;
    int count = S_ISDIR(info.st_mode) ? scandir(path, &entries, NULL, alphasort) : 0;
    for (int i = 0; i < count; i++) {
        char *inner = NULL;
        if (entries[i]->d_name[0] != '.' && asprintf(&inner, "%s/%s", path, entries[i]->d_name) > 0) add_path(inner);
        free(inner);
        free(entries[i]);
    }
    if (count > 0) free(entries);
}

static void overwrite_number(uint8_t *data, size_t size) {
    static const uint64_t numbers[] = {0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, UINT64_MAX};
    size_t width = (size_t)1 << below(4);
    if (size < width) return;
    uint64_t value = numbers[below(sizeof numbers / sizeof *numbers)];
    uint8_t *at = data + below(size - width + 1);
    for (size_t i = 0; i < width; i++) at[i] = (uint8_t)(value >> 8 * (next_random() & 8 ? i : width - 1 - i));
}

// Moves a piece of another sample (or of this one) over or into the input.
static size_t splice(uint8_t *data, size_t size) {
    const Sample *from = &fuzzer.samples[below(fuzzer.count)];
    if (!from->size) return size;
    size_t begin = below(from->size), length = 1 + below(from->size - begin < 64 ? from->size - begin : 64);
    size_t at = below(size + 1);
    bool insert = next_random() & 1;
    size_t grown = insert ? size + length : (at + length > size ? at + length : size);
    if (grown > fuzzer.max_length) return size;
    if (insert) memmove(data + at + length, data + at, size - at);
    memcpy(data + at, from->data + begin, length);
    return grown;
}

static size_t mutate(uint8_t *data, size_t size) {
    for (size_t round = 1 + below(6); round > 0; round--) {
        switch (size ? below(6) : 5) {
            case 0: data[below(size)] ^= (uint8_t)(1u << below(8)); break;
            case 1: data[below(size)] = (uint8_t)next_random(); break;
            case 2: overwrite_number(data, size); break;
            case 3: size = below(8) ? size : below(size + 1); break;  // cut
            case 4: {
                size_t at = below(size), length = 1 + below(size - at < 32 ? size - at : 32);
                if (at + length > size) length = size - at;
                memmove(data + at, data + at + length, size - at - length);
                size -= length;
                break;
            }
            default: size = splice(data, size);
        }
    }
    return size;
}

static void run_one(size_t size) {
    fuzzer.current_size = size;
    // A copy of exactly this size, so that a sanitizer sees a read past its end.
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact) exit(1);
    memcpy(exact, fuzzer.current, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

int main(int argc, char **argv) {
    long seconds = 5;
    fuzzer.max_length = 1 << 16;
    fuzzer.random = 1;
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "-max_total_time=", 16)) seconds = atol(argv[i] + 16);
        else if (!strncmp(argv[i], "-seed=", 6)) fuzzer.random = strtoull(argv[i] + 6, NULL, 10);
        else if (!strncmp(argv[i], "-max_len=", 9)) fuzzer.max_length = strtoull(argv[i] + 9, NULL, 10);
    }
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-') add_path(argv[i]);
    }
    if (!fuzzer.count) {
        fuzzer.samples = calloc(1, sizeof *fuzzer.samples);
        fuzzer.count = 1;
    }
    fuzzer.current = malloc(fuzzer.max_length + 1);
    if (!fuzzer.current || !fuzzer.samples) return 1;
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(save_input);
    } else {
        signal(SIGSEGV, on_signal);
        signal(SIGBUS, on_signal);
        signal(SIGFPE, on_signal);
    }
    signal(SIGABRT, on_signal);
    signal(SIGALRM, on_signal);
    if (LLVMFuzzerInitialize) LLVMFuzzerInitialize(&argc, &argv);
    time_t end = time(NULL) + seconds;
    uint64_t runs = 0;
    for (; runs < fuzzer.count || time(NULL) < end; runs++) {
        const Sample *sample = &fuzzer.samples[runs < fuzzer.count ? runs : below(fuzzer.count)];
        if (sample->size) memcpy(fuzzer.current, sample->data, sample->size);
        alarm(20);  // an input that takes longer is a finding
        run_one(runs < fuzzer.count ? sample->size : mutate(fuzzer.current, sample->size));
    }
    alarm(0);
    printf("Done %llu runs\n", (unsigned long long)runs);
    for (size_t i = 0; i < fuzzer.count; i++) free(fuzzer.samples[i].data);
    free(fuzzer.samples);
    free(fuzzer.current);
    return 0;
}
