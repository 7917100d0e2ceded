#include "mock_models.h"

#include <string.h>

/* mix: a int8[4], b int16[2,3] -> sums int32[2], copy int8[4] with every value negated and saturated */
struct mix {
    int16_t b[6];
    int32_t sums[2];
    int8_t a[4];
    int8_t copy[4];
};

static void mix_reset(void *arena) {
    memset(arena, 0, sizeof(struct mix));
}

static void *mix_input(void *arena, int index) {
    struct mix *mix = arena;

    return index == 0 ? (void *)mix->a : (void *)mix->b;
}

static int mix_invoke(void *arena) {
    struct mix *mix = arena;

    mix->sums[0] = mix->sums[1] = 0;
    for (int i = 0; i < 4; i++) {
        mix->sums[0] += mix->a[i];
        mix->copy[i] = (int8_t)(mix->a[i] == INT8_MIN ? INT8_MAX : -mix->a[i]);
    }
    for (int i = 0; i < 6; i++) {
        mix->sums[1] += mix->b[i];
    }
    memset(mix->a, 0x55, sizeof mix->a);
    memset(mix->b, 0x55, sizeof mix->b);
    return 0;
}

static const void *mix_output(const void *arena, int index) {
    const struct mix *mix = arena;

    return index == 0 ? (const void *)mix->sums : (const void *)mix->copy;
}

static const int32_t shape_4[] = {4}, shape_2_3[] = {2, 3}, shape_2[] = {2};
static const struct intaglio_tensor mix_inputs[] = {
    {"a", shape_4, 4, 0x3F000000u, -3, INTAGLIO_INT8, 1},
    {"b", shape_2_3, 12, 0x3E800001u, 0, INTAGLIO_INT16, 2},
};
static const struct intaglio_tensor mix_outputs[] = {
    {"sums", shape_2, 8, 0, 0, INTAGLIO_INT32, 1},
    {"copy", shape_4, 4, 0x3F000000u, 3, INTAGLIO_INT8, 1},
};
static const struct intaglio_model mix = {INTAGLIO_ABI_VERSION,
                                          sizeof(struct mix),
                                          0,
                                          3,
                                          2,
                                          2,
                                          {0x11, 0x22},
                                          "mix",
                                          mix_inputs,
                                          mix_outputs,
                                          mix_reset,
                                          mix_input,
                                          mix_invoke,
                                          mix_output};

/* wide: uint8[30,40,1] -> uint8[1200] in reverse order: more than one frame either way */
enum { WIDE = 1200 };

static void wide_reset(void *arena) {
    memset(arena, 0, 2 * WIDE);
}

static void *wide_input(void *arena, int index) {
    (void)index;
    return arena;
}

static int wide_invoke(void *arena) {
    uint8_t *in = arena;

    for (int i = 0; i < WIDE; i++) {
        in[WIDE + i] = in[WIDE - 1 - i];
    }
    memset(in, 0xAA, WIDE);
    return 0;
}

static const void *wide_output(const void *arena, int index) {
    (void)index;
    return (const uint8_t *)arena + WIDE;
}

static const int32_t shape_image[] = {30, 40, 1}, shape_wide[] = {WIDE};
/* The name is longer than a label, and a character of two bytes straddles the end of it. */
static const struct intaglio_tensor wide_inputs[] = {
    {"picture_________________________________________________________\xC3\xA9", shape_image, WIDE,
     0x3C000000u, 128, INTAGLIO_UINT8, 3}};
static const struct intaglio_tensor wide_outputs[] = {
    {"reversed_______________________________________________________\xC3\xA9_", shape_wide, WIDE, 0, 0,
     INTAGLIO_UINT8, 1}};
static const struct intaglio_model wide = {
    INTAGLIO_ABI_VERSION, 2 * WIDE,     0,          1,          1,           1,          {0x33}, "wide",
    wide_inputs,          wide_outputs, wide_reset, wide_input, wide_invoke, wide_output};

/* count: int32[1] -> int32[1], the sum of all inputs since the reset: shows a prediction made twice */
static void count_reset(void *arena) {
    memset(arena, 0, 8);
}

static void *count_input(void *arena, int index) {
    (void)index;
    return (int32_t *)arena + 1;
}

static int count_invoke(void *arena) {
    int32_t *words = arena;

    words[0] = (int32_t)((uint32_t)words[0] + (uint32_t)words[1]);
    words[1] = -1;
    return 0;
}

static const void *count_output(const void *arena, int index) {
    (void)index;
    return arena;
}

static const int32_t shape_1[] = {1};
static const struct intaglio_tensor count_tensor[] = {{"n", shape_1, 4, 0, 0, INTAGLIO_INT32, 1}};
static const struct intaglio_model count = {INTAGLIO_ABI_VERSION,
                                            8,
                                            4,
                                            1,
                                            1,
                                            1,
                                            {0x44},
                                            "count",
                                            count_tensor,
                                            count_tensor,
                                            count_reset,
                                            count_input,
                                            count_invoke,
                                            count_output};

/* fail: invoke says no */
static int fail_invoke(void *arena) {
    (void)arena;
    return -7;
}

static const struct intaglio_model fail = {
    INTAGLIO_ABI_VERSION, 8,           0,           1,           1,           1, {0x55}, "fail", count_tensor,
    count_tensor,         count_reset, count_input, fail_invoke, count_output};

const struct intaglio_model *const mock_models[MOCK_MODELS] = {&mix, &wide, &count, &fail};
