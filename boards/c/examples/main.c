/* Tunes a network on gestures that it has never seen, keeps the tail in flash, and finds it there again. The flash is memory
 * here; put your chip's driver in its place. `print` is the platform's: see host.c and mps2-an386.c beside this file. */

#include "flatmin.h"
#include "platform.h"

#define VALUES 600
#define CLASSES 3
#define SAMPLES 60
#define PAGE 4096
#define SLOT (16 * PAGE)
#define SLOTS 2

extern const uint8_t model_pack[];
extern const size_t model_pack_bytes;

_Alignas(16) static uint8_t memory[192 * 1024];
static uint8_t flash_bytes[SLOTS * SLOT];

static int32_t flash_read(void *context, uint32_t offset, uint8_t *into, uint32_t length) {
    const uint8_t *flash = context;
    for (uint32_t i = 0; i < length; i++) into[i] = flash[offset + i];
    return 0;
}

static int32_t flash_write(void *context, uint32_t offset, const uint8_t *bytes, uint32_t length) {
    uint8_t *flash = context;
    for (uint32_t i = 0; i < length; i++) flash[offset + i] &= bytes[i];
    return 0;
}

static int32_t flash_erase(void *context, uint32_t offset, uint32_t length) {
    uint8_t *flash = context;
    for (uint32_t i = 0; i < length; i++) flash[offset + i] = 0xFF;
    return 0;
}

static const flatmin_flash flash = {
    .context = flash_bytes,
    .bytes = sizeof flash_bytes,
    .page_bytes = PAGE,
    .read = flash_read,
    .write = flash_write,
    .erase = flash_erase,
};
static const flatmin_store store = {.start = 0, .slot_bytes = SLOT, .slots = SLOTS};

/* A gesture in place of a sensor's: each label shakes another axis, under some noise. */
static void record(int8_t *window, uint32_t index, uint32_t label) {
    static uint32_t noise = 1;
    for (uint32_t at = 0; at < VALUES; at++) {
        noise = noise * 1664525u + 1013904223u;
        int32_t shaken = at % 6 == label ? (int32_t)((at / 6 + index) % 10) * 12 - 54 : 0;
        window[at] = (int8_t)(shaken + (int32_t)(noise >> 28) - 8);
    }
}

static int failed(const char *what, flatmin_status status) {
    print("%s: %s\n", what, flatmin_status_text(status));
    return 1;
}

#define TRY(call)                                             \
    do {                                                      \
        flatmin_status status = (call);                       \
        if (status != FLATMIN_OK) return failed(#call, status); \
    } while (0)

static int tune(flatmin_tuner *tuner, uint32_t method) {
    flatmin_recipe recipe = flatmin_recipe_default();
    recipe.held_out = 0.2f;
    recipe.learning_rate = 0.05f;
    recipe.method = method;
    TRY(flatmin_factory_reset(tuner, &store, &flash)); /* each method from the same start; the samples stay */
    TRY(flatmin_start(tuner, &recipe));
    for (bool finished = false; !finished;) {
        TRY(flatmin_poll(tuner, &finished)); /* between other work */
    }
    flatmin_acceptance found;
    TRY(flatmin_accept(tuner, &found));
    uint32_t crc32;
    TRY(flatmin_weights_crc32(tuner, &crc32));
    print("method %u: factory %u of %u, tuned %u, %s, weights_crc32 %u\n", (unsigned)method, (unsigned)found.factory_right,
          (unsigned)found.samples, (unsigned)found.tuned_right, found.accepted ? "accepted" : "kept the one before",
          (unsigned)crc32);
    return 0;
}

int main(void) {
    flatmin_recipe recipe = flatmin_recipe_default();
    recipe.held_out = 0.2f;
    size_t needed = 0;
    TRY(flatmin_memory_bytes(model_pack, model_pack_bytes, &recipe, &needed));
    print("memory: %u bytes\n", (unsigned)needed);

    flatmin_tuner *tuner = NULL;
    TRY(flatmin_open(model_pack, model_pack_bytes, &recipe, memory, sizeof memory, &tuner));
    bool restored = true;
    TRY(flatmin_restore(tuner, &store, &flash, &restored));
    print("a kept tail is in force: %s\n", restored ? "yes" : "no");

    static int8_t window[VALUES];
    for (uint32_t index = 0; index < SAMPLES; index++) {
        record(window, index, index % CLASSES);
        TRY(flatmin_observe(tuner, window, VALUES, index % CLASSES));
    }
    for (uint32_t method = FLATMIN_SGD; method <= FLATMIN_ASAM; method++) {
        if (tune(tuner, method)) return 1;
    }
    TRY(flatmin_commit(tuner, &store, &flash));

    /* As after a reset: the memory is lost, the flash is not. */
    TRY(flatmin_open(model_pack, model_pack_bytes, &recipe, memory, sizeof memory, &tuner));
    TRY(flatmin_restore(tuner, &store, &flash, &restored));
    uint32_t crc32, right = 0;
    TRY(flatmin_weights_crc32(tuner, &crc32));
    for (uint32_t index = 0; index < SAMPLES; index++) {
        flatmin_answer answer;
        record(window, index, index % CLASSES);
        TRY(flatmin_classify(tuner, window, VALUES, &answer));
        right += answer.label == index % CLASSES;
    }
    print("after a reset: kept tail in force: %s, weights_crc32 %u, %u of %u new windows right\n", restored ? "yes" : "no",
          (unsigned)crc32, (unsigned)right, SAMPLES);

    /* What goes wrong has a code and a text. */
    print("too short: %s\n", flatmin_status_text(flatmin_observe(tuner, window, VALUES - 1, 0)));
    print("no such label: %s\n", flatmin_status_text(flatmin_observe(tuner, window, VALUES, 1000)));
    print("no run: %s\n", flatmin_status_text(flatmin_poll(tuner, &restored)));
    print("not a pack: %s\n", flatmin_status_text(flatmin_open(memory, 64, &recipe, memory, sizeof memory, &tuner)));
    return 0;
}
