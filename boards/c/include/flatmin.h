/* flatmin for firmware in C. Written by cbindgen from boards/c/src: `FLATMIN_WRITE_HEADER=1 cargo test` in boards/c writes it anew.
 *
 * Order of calls: flatmin_recipe_default, flatmin_memory_bytes, flatmin_open, flatmin_restore at boot; flatmin_observe for
 * each labelled sample; flatmin_start, then flatmin_poll until it says so; flatmin_accept; flatmin_commit; flatmin_classify
 * at any time between runs. A complete program: boards/c/examples/main.c. */

#ifndef FLATMIN_H
#define FLATMIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// SGD with momentum.
#define FLATMIN_SGD 0

// Sharpness-aware minimization (Foret et al. 2020).
#define FLATMIN_SAM 1

// Adaptive sharpness-aware minimization (Kwon et al. 2021).
#define FLATMIN_ASAM 2

// What a call says. Unless a code says otherwise, the tuner is as it was before.
typedef enum {
  // Done.
  FLATMIN_OK = 0,
  // A pointer is null that must not be.
  FLATMIN_NULL = 1,
  // Pack or memory does not begin on a 16-byte boundary.
  FLATMIN_MISALIGNED = 2,
  // The bytes are no pack that this library reads, or it was built for another pack's operators.
  FLATMIN_PACK = 3,
  // A value of the recipe is out of range.
  FLATMIN_RECIPE = 4,
  // The memory is too small; flatmin_memory_bytes says what is needed.
  FLATMIN_MEMORY_TOO_SMALL = 5,
  // The pack's tail cannot do what was asked: it cannot be trained, takes no labels, or has no head to solve.
  FLATMIN_UNSUPPORTED = 6,
  // The input is not as long as the network's.
  FLATMIN_INPUT = 7,
  // The network has no output for this label.
  FLATMIN_LABEL = 8,
  // There is no labelled sample.
  FLATMIN_NO_SAMPLES = 9,
  // A run is under way; poll until it is finished.
  FLATMIN_RUNNING = 10,
  // No run is under way; start one.
  FLATMIN_NOT_RUNNING = 11,
  // There is no tuned tail yet; accept or requantize one.
  FLATMIN_NOT_TUNED = 12,
  // The run has diverged and has ended: tune with a smaller learning rate.
  FLATMIN_DIVERGED = 13,
  // The store does not fit the flash: slots are whole pages inside of it, 2 to 16 of them, each large enough for a record.
  FLATMIN_STORE = 14,
  // The flash failed or is worn out; restore, to see what is in force.
  FLATMIN_FLASH = 15,
  // The processor flushes subnormal numbers to zero, and a run would end in other bits: clear FPSCR.FZ.
  FLATMIN_FLUSHES_TO_ZERO = 16,
  // Refused for a reason that has no code of its own.
  FLATMIN_REFUSED = 17,
} flatmin_status;

// A tuner. It lies at the start of the memory that `flatmin_open` was given; there is nothing to close.
typedef struct flatmin_tuner flatmin_tuner;

// Hyperparameters of a tuning run: those of flatmin::Recipe that a firmware changes. Begin with `flatmin_recipe_default`.
typedef struct {
  // FLATMIN_SGD, FLATMIN_SAM or FLATMIN_ASAM.
  uint32_t method;
  // Radius of the ascent in nats, from 0 to 1,000: about the rise of a mislabelled sample's loss.
  float rho;
  // Step size of the descent, from 0 to 1,000.
  float learning_rate;
  // Momentum, from 0 to below 1.
  float momentum;
  // Weight decay, from 0 to 1.
  float weight_decay;
  // Share of each label that is spread over all classes, from 0 to below 1.
  float label_smoothing;
  // Share of each class that is held out and judges the tuned tail, from 0 to 0.5.
  float held_out;
  // Passes over the samples, 1 to 65,535.
  uint16_t epochs;
  // Samples per step, 1 to 65,535.
  uint16_t minibatch;
  // Samples that are kept, 1 to 65,535; memory grows with it.
  uint16_t replay_capacity;
  // When the replay is full, the class with most samples gives way in place of the oldest sample.
  bool balanced;
  // End with the best weights that the run has seen; takes memory for all parameters once more.
  bool keep_best;
  // Seed of the samples' order.
  uint64_t seed;
} flatmin_recipe;

// What a call of `flatmin_accept` found.
typedef struct {
  // The tuned tail is in force now; else the one of before still is.
  bool accepted;
  // Samples that judged: those held out, or all where none is.
  uint32_t samples;
  // Samples among them that the factory's tail has right.
  uint32_t factory_right;
  // Samples among them that the tuned tail has right.
  uint32_t tuned_right;
} flatmin_acceptance;

// What tuned and factory tail give for a sample.
typedef struct {
  // The class with the largest output; of a network of yes-or-no outputs one bit per output.
  uint32_t label;
  // The largest output: a probability where the network ends in a softmax or a logistic function, else a logit.
  float score;
} flatmin_answer;

// Where kept tails lie in the flash: slots of whole pages, one after the other.
typedef struct {
  // Offset of the first slot: a multiple of the flash's pages.
  uint32_t start;
  // Bytes of a slot: a multiple of the flash's pages. `flatmin inspect` says what a pack's record takes.
  uint32_t slot_bytes;
  // Slots, 2 to 16.
  uint32_t slots;
} flatmin_store;

// NOR flash, as its driver gives it. Offsets count from the flash's start. Functions return 0 when they have done it, any other
// number when they have not.
typedef struct {
  // Handed to each function; may be null.
  void *context;
  // Bytes of the flash.
  uint32_t bytes;
  // Bytes that are erased at once: a multiple of 32.
  uint32_t page_bytes;
  // Reads `length` bytes. Not null.
  int32_t (*read)(void *context, uint32_t offset, uint8_t *into, uint32_t length);
  // Writes `length` bytes into erased flash. Both numbers are multiples of 32. Not null.
  int32_t (*write)(void *context, uint32_t offset, const uint8_t *bytes, uint32_t length);
  // Erases `length` bytes: whole pages. Not null.
  int32_t (*erase)(void *context, uint32_t offset, uint32_t length);
} flatmin_flash;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Bytes of memory that `flatmin_open` takes for a pack and a recipe.
//
// # Safety
// `pack` points to `pack_bytes` bytes, `recipe` to a recipe, `bytes` to a place for the answer.
flatmin_status flatmin_memory_bytes(const uint8_t *pack,
                                    size_t pack_bytes,
                                    const flatmin_recipe *recipe,
                                    size_t *bytes);

// Makes a tuner in `memory`. Pack and memory belong to it from now on: neither may be moved, written or freed.
//
// Pack and memory begin on 16-byte boundaries. The pack is checked once, by its CRC-32 and everything that the kernels rely on.
//
// # Safety
// `pack` points to `pack_bytes` bytes that never change, `memory` to `memory_bytes` bytes that nobody else uses.
flatmin_status flatmin_open(const uint8_t *pack,
                            size_t pack_bytes,
                            const flatmin_recipe *recipe,
                            uint8_t *memory,
                            size_t memory_bytes,
                            flatmin_tuner **tuner);

// Keeps a labelled sample. `input` has as many values as the network takes, quantized as its input is.
//
// # Safety
// `tuner` comes from `flatmin_open`, `input` points to `values` values.
flatmin_status flatmin_observe(flatmin_tuner *tuner, const int8_t *input, size_t values, uint32_t label);

// Solves the last layer in closed form from the samples: no rate and no epochs. `flatmin_accept` takes the head,
// `flatmin_start` goes on from it. `scratch` may be null where the tuner's own memory is large enough, which
// `FLATMIN_MEMORY_TOO_SMALL` denies. Networks without factory statistics (`flatmin pack --calibration`) are solved from
// the samples alone.
//
// # Safety
// `tuner` comes from `flatmin_open`; `scratch` is null or points to `words` words that nobody else uses.
flatmin_status flatmin_solve(flatmin_tuner *tuner, uint32_t *scratch, size_t words);

// Starts a tuning run over the samples, with the hyperparameters of `recipe`; null takes those of `flatmin_open`.
//
// # Safety
// `tuner` comes from `flatmin_open`, `recipe` is null or points to a recipe.
flatmin_status flatmin_start(flatmin_tuner *tuner, const flatmin_recipe *recipe);

// Does the next slice of the run, about the work of one sample, and says whether the run is finished.
//
// # Safety
// `tuner` comes from `flatmin_open`, `finished` points to a place for the answer.
flatmin_status flatmin_poll(flatmin_tuner *tuner, bool *finished);

// Quantizes the tuned tail to int8 and puts it in force if the samples speak for it.
//
// # Safety
// `tuner` comes from `flatmin_open`, `acceptance` points to a place for the answer.
flatmin_status flatmin_accept(flatmin_tuner *tuner, flatmin_acceptance *acceptance);

// Quantizes the tuned tail to int8 and puts it in force, whatever the samples say.
//
// # Safety
// `tuner` comes from `flatmin_open`.
flatmin_status flatmin_requantize(flatmin_tuner *tuner);

// The answer of the tail in force.
//
// # Safety
// `tuner` comes from `flatmin_open`, `input` points to `values` values, `answer` to a place for the answer.
flatmin_status flatmin_classify(flatmin_tuner *tuner, const int8_t *input, size_t values, flatmin_answer *answer);

// CRC-32 of the f32 parameters: the same on every processor and on the desktop after the same calls.
//
// # Safety
// `tuner` comes from `flatmin_open`, `crc32` points to a place for the answer.
flatmin_status flatmin_weights_crc32(flatmin_tuner *tuner, uint32_t *crc32);

// Samples that the tuner has.
//
// # Safety
// `tuner` comes from `flatmin_open`, `samples` points to a place for the answer.
flatmin_status flatmin_samples(flatmin_tuner *tuner, uint32_t *samples);

// Forgets all samples; the tail stays.
//
// # Safety
// `tuner` comes from `flatmin_open`.
flatmin_status flatmin_forget(flatmin_tuner *tuner);

// Keeps the tail in force in flash. After a power cut at any moment `flatmin_restore` finds this one or the one before.
//
// # Safety
// `tuner` comes from `flatmin_open`; `store` and `flash` point to what their names say, with functions that keep to their contract.
flatmin_status flatmin_commit(flatmin_tuner *tuner,
                              const flatmin_store *store,
                              const flatmin_flash *flash);

// At boot: puts the newest tail that was kept in force, or the factory's where there is none.
//
// # Safety
// As for `flatmin_commit`; `restored` points to a place for the answer: whether a kept tail is in force.
flatmin_status flatmin_restore(flatmin_tuner *tuner,
                               const flatmin_store *store,
                               const flatmin_flash *flash,
                               bool *restored);

// Takes the newest tail that was kept back: the one before it comes into force, else the factory's.
//
// # Safety
// As for `flatmin_commit`.
flatmin_status flatmin_roll_back(flatmin_tuner *tuner, const flatmin_store *store, const flatmin_flash *flash);

// Puts the factory's tail in force, and erases what was kept.
//
// # Safety
// As for `flatmin_commit`.
flatmin_status flatmin_factory_reset(flatmin_tuner *tuner, const flatmin_store *store, const flatmin_flash *flash);

// The recipe to start from.
flatmin_recipe flatmin_recipe_default(void);

// The recipe of a run that goes on from `flatmin_solve` in more than two layers.
flatmin_recipe flatmin_recipe_from_closed_form(void);

// A status in words, in English; never null.
const char *flatmin_status_text(uint32_t status);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FLATMIN_H */
