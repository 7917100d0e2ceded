#include "commands.h"

#include <string.h>

enum { RANK_MOST = 8 };

static const struct intaglio_model *model_at(const struct agent *agent, uint32_t index) {
#ifdef AGENT_SLOTS
    if (index >= agent->count) {
        const uint32_t slot = slots_find(&agent->slots, index);

        return slot < AGENT_SLOTS ? agent->slots.loaded[slot].model : NULL;
    }
#endif
    return index < agent->count ? agent->models[index] : NULL;
}

/* Of a model that is there. */
static void *arena_of(const struct agent *agent, uint32_t index) {
#ifdef AGENT_SLOTS
    if (index >= agent->count) {
        return slots_arena(&agent->slots, slots_find(&agent->slots, index));
    }
#endif
    return agent->arenas[index];
}

static uint32_t stream_bytes(const struct intaglio_tensor *tensors, uint8_t count) {
    uint32_t total = 0;

    for (uint8_t i = 0; i < count; i++) {
        total += tensors[i].bytes;
    }
    return total;
}

static void write_inputs(const struct intaglio_model *model, void *arena, uint32_t offset,
                         const uint8_t *from, uint32_t size) {
    for (uint8_t i = 0; size != 0; i++) {
        const uint32_t bytes = model->inputs[i].bytes;

        if (offset >= bytes) {
            offset -= bytes;
            continue;
        }
        const uint32_t piece = size < bytes - offset ? size : bytes - offset;
        memcpy((uint8_t *)model->input(arena, i) + offset, from, piece);
        from += piece;
        size -= piece;
        offset = 0;
    }
}

/* The outputs from `offset` on, as many as lie in one piece and go into one message. */
static struct zcbor_string read_outputs(const struct intaglio_model *model, const void *arena,
                                        uint32_t offset) {
    struct zcbor_string data = {.value = arena, .len = 0};

    for (uint8_t i = 0; i < model->output_count; i++) {
        const uint32_t bytes = model->outputs[i].bytes;

        if (offset < bytes) {
            data.value = (const uint8_t *)model->output(arena, i) + offset;
            data.len = bytes - offset < DATA_BYTES ? bytes - offset : DATA_BYTES;
            break;
        }
        offset -= bytes;
    }
    return data;
}

enum wire_reason command_list(struct agent *agent, const union codec_any *request, struct answer *answer) {
    const struct intaglio_model *model = model_at(agent, request->list_request.model);
    struct list_response *to = &answer->as.list_response;

    if (model == NULL) {
        return WIRE_NOT_FOUND;
    }
    to->name = wire_label(model->name);
    to->digest.value = model->digest;
    to->digest.len = sizeof model->digest;
    to->abi = model->abi_version;
    to->arena = model->arena_bytes;
    to->state = model->state_bytes;
    to->layers = model->layer_count;
    to->inputs = model->input_count;
    to->outputs = model->output_count;
    return WIRE_OK;
}

enum wire_reason command_describe(struct agent *agent, const union codec_any *request,
                                  struct answer *answer) {
    const struct intaglio_model *model = model_at(agent, request->describe_request.model);
    struct describe_response *to = &answer->as.describe_response;
    uint32_t index = request->describe_request.tensor;
    const struct intaglio_tensor *tensor;

    if (model == NULL) {
        return WIRE_NOT_FOUND;
    }
    if (index < model->input_count) {
        tensor = &model->inputs[index];
    } else {
        index -= model->input_count;
        if (index >= model->output_count) {
            return WIRE_NOT_FOUND;
        }
        tensor = &model->outputs[index];
    }
    to->name = wire_label(tensor->name);
    to->dtype = tensor->dtype;
    to->i32_m_count = tensor->rank < RANK_MOST ? tensor->rank : RANK_MOST;
    memcpy(to->i32_m, tensor->shape, to->i32_m_count * sizeof to->i32_m[0]);
    to->size = tensor->bytes;
    to->scale = tensor->scale_bits;
    to->zero = tensor->zero_point;
    return WIRE_OK;
}

/* Whether this prediction, which asked for capture, is the one of `every` that is recorded. */
static bool sampled(struct agent *agent) {
    if (agent->config.every == 0) {
        return false;
    }
    if (agent->until_sample != 0) {
        agent->until_sample--;
        return false;
    }
    agent->until_sample = agent->config.every - 1u;
    return true;
}

static enum wire_reason run(struct agent *agent, const struct intaglio_model *model,
                            const struct predict_request *request, struct answer *answer) {
    struct predict_response *to = &answer->as.predict_response;
    void *arena = arena_of(agent, request->model);
    const uint32_t output_bytes = stream_bytes(model->outputs, model->output_count);
    struct capture_header header = {
        .total = stream_bytes(model->inputs, model->input_count) + output_bytes,
        .model = request->model,
    };
    const bool capture = request->capture && sampled(agent) &&
                         capture_begin(&agent->ring, header.total, (enum capture_policy)agent->config.policy);

    if (capture) {
        /* now, since invoke may destroy them */
        for (uint8_t i = 0; i < model->input_count; i++) {
            capture_append(&agent->ring, model->input(arena, i), model->inputs[i].bytes);
        }
    }
    const uint32_t cycles = hal_cycles();
    header.up = hal_time_us();
    const int status = model->invoke(arena);
    to->us = (uint32_t)(hal_time_us() - header.up);
    header.cycles = hal_cycles() - cycles;

    agent->last_cycles = header.cycles;
    agent->counters.invocations++;
    if (status < 0) {
        agent->counters.errors++;
        return WIRE_MODEL_FAILED;
    }
    if (capture) {
        for (uint8_t i = 0; i < model->output_count; i++) {
            capture_append(&agent->ring, model->output(arena, i), model->outputs[i].bytes);
        }
        capture_commit(&agent->ring, &header);
    }
    agent->transfer.finished = true;
    answer->map = CODEC_PREDICT_RESPONSE;
    to->cycles = header.cycles;
    to->captured = capture;
    to->record = header.sequence;
    to->total = output_bytes;
    to->data = read_outputs(model, arena, 0);
    return WIRE_OK;
}

enum wire_reason command_predict(struct agent *agent, const union codec_any *request, struct answer *answer) {
    struct agent_transfer *transfer = &agent->transfer;
    const struct predict_request *chunk = &request->predict_request;
    const struct intaglio_model *model = model_at(agent, chunk->model);

    if (model == NULL) {
        return WIRE_NOT_FOUND;
    }
    transfer->finished = false;
    if (chunk->off == 0) {
        transfer->model = chunk->model;
        transfer->received = 0;
    }
    const uint32_t total = stream_bytes(model->inputs, model->input_count);
    if (chunk->model != transfer->model || chunk->off != transfer->received ||
        chunk->data.len > total - transfer->received) {
        return WIRE_OFFSET;
    }
    write_inputs(model, arena_of(agent, chunk->model), chunk->off, chunk->data.value,
                 (uint32_t)chunk->data.len);
    transfer->received += (uint32_t)chunk->data.len;
    if (transfer->received == total) {
        transfer->received = 0;
        return run(agent, model, chunk, answer);
    }
    answer->as.predict_more.off = transfer->received;
    return WIRE_OK;
}

enum wire_reason command_output(struct agent *agent, const union codec_any *request, struct answer *answer) {
    const uint32_t index = request->output_request.model;
    const uint32_t offset = request->output_request.off;
    const struct intaglio_model *model = model_at(agent, index);

    if (model == NULL || !agent->transfer.finished || index != agent->transfer.model) {
        return WIRE_NOT_FOUND;
    }
    if (offset >= stream_bytes(model->outputs, model->output_count)) {
        return WIRE_OFFSET;
    }
    answer->as.output_response.off = offset;
    answer->as.output_response.data = read_outputs(model, arena_of(agent, index), offset);
    return WIRE_OK;
}
