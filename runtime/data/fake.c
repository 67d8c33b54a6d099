// Made-up pictures: a gradient between two colours with discs on it. Enough to try a model, a machine, a command.
#include "data/fake.h"

#include "base/random.h"

enum { SIDE = 128, DISCS = 3, STREAM = 0x66616B65 };

bool fake_picture(uint64_t sample, LvPicture *picture, LvError *error) {
    uint32_t key[2] = {STREAM, 0}, words[DISCS + 1][4];
    for (uint32_t i = 0; i <= DISCS; i++) lv_philox(key, (uint32_t[4]){(uint32_t)sample, (uint32_t)(sample >> 32), i, 0}, words[i]);
    if (!lv_picture_alloc(picture, SIDE, SIDE, error)) return false;
    uint8_t *out = picture->pixels;
    for (int y = 0; y < SIDE; y++) {
        for (int x = 0; x < SIDE; x++, out += 3) {
            int t = words[0][2] & 1 ? x : y;
            for (int c = 0; c < 3; c++) {
                int from = words[0][0] >> (8 * c) & 255, to = words[0][1] >> (8 * c) & 255;
                out[c] = (uint8_t)((from * (SIDE - 1 - t) + to * t) / (SIDE - 1));
            }
            for (int i = 1; i <= DISCS; i++) {
                int dx = x - (int)(words[i][0] % SIDE), dy = y - (int)(words[i][1] % SIDE), r = 8 + (int)(words[i][2] % 32);
                if (dx * dx + dy * dy <= r * r) for (int c = 0; c < 3; c++) out[c] = (uint8_t)(words[i][3] >> (8 * c));
            }
        }
    }
    return true;
}
