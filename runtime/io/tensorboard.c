// Event files: protobuf messages (protobuf-c) in TFRecord framing: u64 length, masked crc32c of it, message, masked crc32c.
#include "io/tensorboard.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "io/png.h"
#include "tensorboard.pb-c.h"

struct LvEvents {
    FILE *file;
    char *path;
    uint32_t table[256];
};

static void make_table(uint32_t table[256]) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0x82F63B78u : c >> 1;
        table[i] = c;
    }
}

static uint32_t crc_of(const uint32_t table[256], const void *data, size_t length) {
    const unsigned char *p = data;
    uint32_t c = 0xFFFFFFFFu;
    for (size_t i = 0; i < length; i++) c = c >> 8 ^ table[(c ^ p[i]) & 255];
    return c ^ 0xFFFFFFFFu;
}

uint32_t lv_crc32c(const void *data, size_t length) {
    uint32_t table[256];
    make_table(table);
    return crc_of(table, data, length);
}

static void put_little(unsigned char *to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) to[i] = (unsigned char)(value >> 8 * i);
}

static uint32_t masked(const LvEvents *events, const void *data, size_t length) {
    uint32_t c = crc_of(events->table, data, length);
    return (c >> 15 | c << 17) + 0xA282EAD8u;
}

static bool write_event(LvEvents *events, Tensorboard__Event *event, LvError *error) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    event->has_wall_time = 1;
    event->wall_time = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    size_t length = tensorboard__event__get_packed_size(event);
    unsigned char *record = lv_malloc(length + 16);
    put_little(record, length, 8);
    put_little(record + 8, masked(events, record, 8), 4);
    tensorboard__event__pack(event, record + 12);
    put_little(record + 12 + length, masked(events, record + 12, length), 4);
    bool good = fwrite(record, 1, length + 16, events->file) == length + 16;
    free(record);
    return good || lv_error_system(error, "cannot write '%s'", events->path);
}

static bool write_value(LvEvents *events, int64_t step, Tensorboard__Value *value, LvError *error) {
    Tensorboard__Event event = TENSORBOARD__EVENT__INIT;
    Tensorboard__Summary summary = TENSORBOARD__SUMMARY__INIT;
    summary.n_value = 1;
    summary.value = &value;
    event.has_step = 1;
    event.step = step;
    event.summary = &summary;
    return write_event(events, &event, error);
}

bool lv_events_open(const char *folder, int64_t first_step, LvEvents **out, LvError *error) {
    LvEvents *events = lv_calloc(1, sizeof *events);
    make_table(events->table);
    LvText path = {0};
    char host[64] = "host";
    gethostname(host, sizeof host - 1);
    lv_text_printf(&path, "%s/events.out.tfevents.%010lld.%s.%ld", folder, (long long)time(NULL), host, (long)getpid());
    events->path = lv_strdup(path.data);
    lv_text_free(&path);
    events->file = fopen(events->path, "abe");
    if (!events->file) {
        lv_error_system(error, "cannot open '%s'", events->path);
        lv_events_close(events);
        return false;
    }
    Tensorboard__Event event = TENSORBOARD__EVENT__INIT;
    event.file_version = (char *)(uintptr_t)"brain.Event:2";
    bool good = write_event(events, &event, error);
    if (good && first_step > 1) {
        Tensorboard__Event start = TENSORBOARD__EVENT__INIT;
        Tensorboard__SessionLog log = TENSORBOARD__SESSION_LOG__INIT;
        log.has_status = log.status = 1;
        start.has_step = 1;
        start.step = first_step;
        start.session_log = &log;
        good = write_event(events, &start, error);
    }
    if (good) *out = events;
    else lv_events_close(events);
    return good;
}

bool lv_events_scalar(LvEvents *events, int64_t step, const char *tag, double value, LvError *error) {
    Tensorboard__Value item = TENSORBOARD__VALUE__INIT;
    item.tag = (char *)(uintptr_t)tag;
    item.has_simple_value = 1;
    item.simple_value = (float)value;
    return write_value(events, step, &item, error);
}

bool lv_events_picture(LvEvents *events, int64_t step, const char *tag, const LvPicture *picture, LvError *error) {
    LvText png = {0};
    Tensorboard__Value item = TENSORBOARD__VALUE__INIT;
    Tensorboard__Image image = TENSORBOARD__IMAGE__INIT;
    bool good = lv_png_encode(picture, &png, error);
    if (good) {
        image.has_height = image.has_width = image.has_colorspace = image.has_encoded_image_string = 1;
        image.height = picture->height;
        image.width = picture->width;
        image.colorspace = 3;
        image.encoded_image_string.data = (uint8_t *)png.data;
        image.encoded_image_string.len = png.length;
        item.tag = (char *)(uintptr_t)tag;
        item.image = &image;
        good = write_value(events, step, &item, error);
    }
    lv_text_free(&png);
    return good;
}

bool lv_events_flush(LvEvents *events, LvError *error) {
    return fflush(events->file) == 0 || lv_error_system(error, "cannot write '%s'", events->path);
}

void lv_events_close(LvEvents *events) {
    if (!events) return;
    if (events->file) fclose(events->file);
    free(events->path);
    free(events);
}
