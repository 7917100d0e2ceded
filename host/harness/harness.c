/* Feeds samples to one generated library and returns its outputs, and its layers where traced. */
#include "harness.h"
#include INTAGLIO_HEADER

static void fill(uint8_t *to, uint8_t value, uint32_t bytes) {
    for (uint32_t i = 0; i < bytes; i++) {
        to[i] = value;
    }
}

void harness_record(uint32_t kind, uint32_t a, uint32_t b, const void *data, uint32_t bytes) {
    const uint32_t head[4] = {kind, a, b, bytes};
    harness_write(head, sizeof head);
    if (bytes != 0) {
        harness_write(data, bytes);
    }
}

void harness_trace(int layer, int output, const void *data, uint32_t bytes) {
    harness_record(HARNESS_TRACE, (uint32_t)layer, (uint32_t)output, data, bytes);
}

static void describe(uint32_t side, uint32_t index, const struct intaglio_tensor *tensor) {
    const uint32_t head[7] = {HARNESS_TENSOR, side,          index,       12u + 4u * tensor->rank,
                              tensor->dtype,  tensor->bytes, tensor->rank};
    harness_write(head, sizeof head);
    if (tensor->rank != 0) {
        harness_write(tensor->shape, 4u * tensor->rank);
    }
}

static uint32_t word(void) {
    uint32_t value;
    harness_read(&value, sizeof value);
    return value;
}

static void read_input(const struct intaglio_model *model, uint8_t *arena, int index) {
    const struct intaglio_tensor *tensor = &model->inputs[index];
    const uint32_t dtype = word();
    const uint32_t bytes = word();
    if (dtype != tensor->dtype || bytes != tensor->bytes) {
        harness_record(HARNESS_MISMATCH, (uint32_t)index, bytes, NULL, 0);
        harness_exit(0);
    }
    harness_read(model->input(arena, index), bytes);
}

static void check_guards(const uint8_t *arena, uint32_t bytes) {
    for (uint32_t i = 0; i < HARNESS_GUARD_BYTES; i++) {
        if (*(arena - 1u - i) != HARNESS_GUARD_PATTERN) {
            harness_record(HARNESS_OVERRUN, 0, i + 1u, NULL, 0);
            harness_exit(0);
        }
        if (arena[bytes + i] != HARNESS_GUARD_PATTERN) {
            harness_record(HARNESS_OVERRUN, 1, i + 1u, NULL, 0);
            harness_exit(0);
        }
    }
}

void harness_main(void) {
    const struct intaglio_model *model = &INTAGLIO_MODEL;
    const uint32_t samples = word();
    const uint32_t reset_each = word();
    for (uint32_t i = 0; i < model->input_count; i++) {
        describe(0, i, &model->inputs[i]);
    }
    for (uint32_t i = 0; i < model->output_count; i++) {
        describe(1, i, &model->outputs[i]);
    }

    uint8_t *arena = harness_arena(model->arena_bytes);
    fill(arena - HARNESS_GUARD_BYTES, HARNESS_GUARD_PATTERN, HARNESS_GUARD_BYTES);
    fill(arena, HARNESS_GARBAGE, model->arena_bytes);
    fill(arena + model->arena_bytes, HARNESS_GUARD_PATTERN, HARNESS_GUARD_BYTES);

    for (uint32_t i = 0; i < samples; i++) {
        harness_seal(arena, model->arena_bytes, 1);
        if (i == 0 || reset_each != 0) {
            model->reset(arena);
        }
        for (int k = 0; k < model->input_count; k++) {
            read_input(model, arena, k);
        }
        uint32_t stack = 0;
        const int status = harness_invoke(model->invoke, arena, &stack);
        harness_seal(arena, model->arena_bytes, 0);
        check_guards(arena, model->arena_bytes);
        for (int k = 0; k < model->output_count; k++) {
            harness_record(HARNESS_OUTPUT, (uint32_t)k, 0, model->output(arena, k), model->outputs[k].bytes);
        }
        harness_record(HARNESS_DONE, (uint32_t)status, stack, NULL, 0);
    }
    harness_exit(0);
}
