// Checkpoints: what is written reads back; a file cut off anywhere, or with any bit turned over, is refused; the one before is
// used; pruning and second names.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/text.h"
#include "io/checkpoint.h"

typedef struct {
    char folder[64];
    LvText path;
} Place;

static int setup(void **state) {
    Place *place = lv_calloc(1, sizeof *place);
    strcpy(place->folder, "/tmp/lverse-checkpoint-XXXXXX");
    *state = place;
    return mkdtemp(place->folder) == NULL;
}

static int teardown(void **state) {
    Place *place = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", place->folder);
    int code = system(command);
    lv_text_free(&place->path);
    free(place);
    return code;
}

static const char *in(Place *place, const char *name) {
    place->path.length = 0;
    lv_text_printf(&place->path, "%s/%s", place->folder, name);
    return place->path.data;
}

static void save(const char *path, float first, const char *train) {
    float weights[6] = {first, 2, 3, 4, 5, 6};
    int32_t count = 7;
    LvTensor tensors[] = {{"conv.weight", LV_F32, {2, {2, 3}}, weights, sizeof weights}, {"steps", LV_I32, {0}, &count, sizeof count}};
    LvMetadata about[] = {{"lverse.model", "{\"name\": \"M\"}"}, {"lverse.train", train}};
    LvError error = {0};
    assert_true(lv_checkpoint_write(path, tensors, 2, about, 2, &error));
}

static float first_of(const LvTensorFile *file) {
    const LvTensor *tensor = lv_safetensors_find(file, "conv.weight");
    assert_non_null(tensor);
    float value;
    memcpy(&value, tensor->data, sizeof value);
    return value;
}

static void back(void **state) {
    const char *path = in(*state, "a.safetensors");
    LvTensorFile *file;
    LvError error = {0};
    save(path, 1, "{\"step\": 3}");
    assert_true(lv_checkpoint_read(path, false, &file, &error));
    assert_int_equal(lv_safetensors_count(file), 2);
    assert_true(first_of(file) == 1);
    assert_string_equal(lv_safetensors_metadata(file, "lverse.train"), "{\"step\": 3}");
    assert_string_equal(lv_safetensors_metadata(file, "lverse.version"), "1");
    lv_safetensors_free(file);
}

static void same_bytes(void **state) {
    char *a, *b;
    size_t n, m;
    LvError error = {0};
    save(in(*state, "a.safetensors"), 1, "{\"step\": 3}");
    assert_true(lv_file_read(in(*state, "a.safetensors"), 1 << 20, &a, &n, &error));
    save(in(*state, "b.safetensors"), 1, "{\"step\": 3}");
    assert_true(lv_file_read(in(*state, "b.safetensors"), 1 << 20, &b, &m, &error));
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    free(a);
    free(b);
}

// Every bit of the file: whatever is turned over, the file is refused, or reads as exactly the same content (spaces that pad).
static void altered(void **state) {
    const char *path = in(*state, "a.safetensors");
    char *data;
    size_t length;
    LvError error = {0};
    save(path, 1, "{\"step\": 3}");
    assert_true(lv_file_read(path, 1 << 20, &data, &length, &error));
    int accepted = 0;
    for (size_t bit = 0; bit < length * 8; bit++) {
        LvTensorFile *file = NULL;
        data[bit / 8] = (char)(data[bit / 8] ^ (1 << bit % 8));
        FILE *out = fopen(path, "wb");
        assert_non_null(out);
        assert_int_equal(fwrite(data, 1, length, out), length);
        fclose(out);
        if (lv_checkpoint_read(path, false, &file, &error)) {
            assert_true(first_of(file) == 1);
            assert_string_equal(lv_safetensors_metadata(file, "lverse.train"), "{\"step\": 3}");
            assert_int_equal(lv_safetensors_count(file), 2);
            lv_safetensors_free(file);
            accepted++;
        } else {
            assert_non_null(error.message);
            lv_error_clear(&error);
        }
        data[bit / 8] = (char)(data[bit / 8] ^ (1 << bit % 8));
    }
    assert_true(accepted < 64 * 8);  // the padding's bits at most
    free(data);
}

static void torn(void **state) {
    const char *path = in(*state, "a.safetensors");
    struct stat about;
    LvError error = {0};
    save(path, 1, "{\"step\": 3}");
    assert_int_equal(stat(path, &about), 0);
    for (off_t length = about.st_size; length-- > 0;) {
        LvTensorFile *file = NULL;
        assert_int_equal(truncate(path, length), 0);
        assert_false(lv_checkpoint_read(path, false, &file, &error));
        assert_null(file);
        assert_int_equal(strncmp(error.message, path, strlen(path)), 0);
        lv_error_clear(&error);
    }
}

static void foreign(void **state) {
    const char *path = in(*state, "a.safetensors");
    LvTensorFile *file = NULL;
    LvError error = {0};
    float one = 1;
    LvTensor tensor = {"x", LV_F32, {1, {1}}, &one, 4};
    assert_true(lv_safetensors_write(path, &tensor, 1, NULL, 0, &error));
    assert_true(lv_checkpoint_read(path, true, &file, &error));
    lv_safetensors_free(file);
    assert_false(lv_checkpoint_read(path, false, &file, &error));
    assert_non_null(strstr(error.message, "no checkpoint: it has no hash"));
    lv_error_clear(&error);
}

static void the_one_before(void **state) {
    Place *place = *state;
    LvTensorFile *file;
    LvText path = {0}, refused = {0};
    LvError error = {0};
    assert_true(lv_checkpoint_find(place->folder, &file, &path, &refused, &error));
    assert_null(file);  // none at all
    save(in(place, "step-9.safetensors"), 9, "{}");
    save(in(place, "step-10.safetensors"), 10, "{}");
    save(in(place, "step-2.safetensors"), 2, "{}");
    save(in(place, "last.safetensors"), 11, "{}");
    assert_true(lv_checkpoint_find(place->folder, &file, &path, &refused, &error));
    assert_true(first_of(file) == 11);
    lv_safetensors_free(file);
    assert_int_equal(refused.length, 0);
    assert_int_equal(truncate(in(place, "last.safetensors"), 100), 0);
    assert_int_equal(truncate(in(place, "step-10.safetensors"), 200), 0);
    assert_true(lv_checkpoint_find(place->folder, &file, &path, &refused, &error));
    assert_true(first_of(file) == 9);
    lv_safetensors_free(file);
    assert_non_null(strstr(path.data, "/step-9.safetensors"));
    assert_non_null(strstr(refused.data, "/last.safetensors: "));
    assert_non_null(strstr(refused.data, "/step-10.safetensors: "));
    assert_int_equal(truncate(in(place, "step-9.safetensors"), 0), 0);
    assert_int_equal(truncate(in(place, "step-2.safetensors"), 7), 0);
    refused.length = 0;
    assert_false(lv_checkpoint_find(place->folder, &file, &path, &refused, &error));
    assert_non_null(strstr(error.message, "is whole"));
    assert_non_null(error.hint);
    lv_error_clear(&error);
    lv_text_free(&path);
    lv_text_free(&refused);
}

static void pruned(void **state) {
    Place *place = *state;
    char name[64];
    for (int i = 1; i <= 12; i++) {
        snprintf(name, sizeof name, "step-%d.safetensors", i);
        save(in(place, name), 1, "{}");
    }
    save(in(place, "best.safetensors"), 1, "{}");
    save(in(place, "step-x.safetensors"), 1, "{}");
    LvError error = {0};
    assert_true(lv_file_write(in(place, "last.safetensors.tmp.123"), "x", 1, &error));
    lv_checkpoint_prune(place->folder, 3);
    for (int i = 1; i <= 12; i++) {
        snprintf(name, sizeof name, "step-%d.safetensors", i);
        assert_int_equal(access(in(place, name), F_OK) == 0, i > 9);
    }
    assert_int_equal(access(in(place, "best.safetensors"), F_OK), 0);
    assert_int_equal(access(in(place, "step-x.safetensors"), F_OK), 0);
    assert_int_equal(access(in(place, "last.safetensors.tmp.123"), F_OK), -1);
}

static void second_name(void **state) {
    Place *place = *state;
    LvTensorFile *file;
    LvError error = {0};
    LvText to = {0};
    lv_text_puts(&to, in(place, "last.safetensors"));
    save(to.data, 1, "{}");
    for (int again = 0; again < 2; again++) {
        save(in(place, "step-5.safetensors"), 5, "{}");
        assert_true(lv_checkpoint_link(in(place, "step-5.safetensors"), to.data, &error));
        assert_true(lv_checkpoint_link(in(place, "step-5.safetensors"), to.data, &error));
        assert_true(lv_checkpoint_read(to.data, false, &file, &error));
        assert_true(first_of(file) == 5);
        lv_safetensors_free(file);
    }
    // a new file under the first name leaves the second as it is
    save(in(place, "step-5.safetensors"), 6, "{}");
    assert_true(lv_checkpoint_read(to.data, false, &file, &error));
    assert_true(first_of(file) == 5);
    lv_safetensors_free(file);
    lv_text_free(&to);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(back, setup, teardown),
        cmocka_unit_test_setup_teardown(same_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(altered, setup, teardown),
        cmocka_unit_test_setup_teardown(torn, setup, teardown),
        cmocka_unit_test_setup_teardown(foreign, setup, teardown),
        cmocka_unit_test_setup_teardown(the_one_before, setup, teardown),
        cmocka_unit_test_setup_teardown(pruned, setup, teardown),
        cmocka_unit_test_setup_teardown(second_name, setup, teardown),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
