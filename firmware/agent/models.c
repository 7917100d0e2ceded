#include "commands.h"

#include <string.h>

#include "codec_decode.h"
#include "codec_encode.h"

enum { RANK_MOST = 8 };

static const struct intaglio_model *model_at(const struct agent *agent, uint32_t index) {
    return index < agent->count ? agent->models[index] : NULL;
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

enum wire_reason command_list(struct agent *agent, struct exchange *exchange) {
    struct list_request request;
    size_t used;
    const int error = cbor_decode_list_request(exchange->request, exchange->request_size, &request, &used);

    if (decoded(exchange, error, used) != WIRE_OK) {
        return WIRE_MALFORMED;
    }
    const struct intaglio_model *model = model_at(agent, request.model);
    if (model == NULL) {
        return WIRE_NOT_FOUND;
    }
    const struct list_response response = {
        .name = wire_label(model->name),
        .digest = {.value = model->digest, .len = sizeof model->digest},
        .abi = model->abi_version,
        .arena = model->arena_bytes,
        .state = model->state_bytes,
        .layers = model->layer_count,
        .inputs = model->input_count,
        .outputs = model->output_count,
    };
    return encoded(
        cbor_encode_list_response(exchange->response, exchange->room, &response, &exchange->response_size));
}

enum wire_reason command_describe(struct agent *agent, struct exchange *exchange) {
    struct describe_request request;
    size_t used;
    const int error =
        cbor_decode_describe_request(exchange->request, exchange->request_size, &request, &used);

    if (decoded(exchange, error, used) != WIRE_OK) {
        return WIRE_MALFORMED;
    }
    const struct intaglio_model *model = model_at(agent, request.model);
    if (model == NULL || request.tensor >= (uint32_t)model->input_count + model->output_count) {
        return WIRE_NOT_FOUND;
    }
    const struct intaglio_tensor *tensor = request.tensor < model->input_count
                                               ? &model->inputs[request.tensor]
                                               : &model->outputs[request.tensor - model->input_count];
    struct describe_response response = {
        .name = wire_label(tensor->name),
        .dtype = tensor->dtype,
        .i32_m_count = tensor->rank < RANK_MOST ? tensor->rank : RANK_MOST,
        .size = tensor->bytes,
        .scale = tensor->scale_bits,
        .zero = tensor->zero_point,
    };
    memcpy(response.i32_m, tensor->shape, response.i32_m_count * sizeof response.i32_m[0]);
    return encoded(cbor_encode_describe_response(exchange->response, exchange->room, &response,
                                                 &exchange->response_size));
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

static enum wire_reason run(struct agent *agent, const struct predict_request *request,
                            struct exchange *exchange) {
    const struct intaglio_model *model = agent->models[request->model];
    void *arena = agent->arenas[request->model];
    struct capture_header header = {
        .total = stream_bytes(model->inputs, model->input_count) +
                 stream_bytes(model->outputs, model->output_count),
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
    const uint32_t us = (uint32_t)(hal_time_us() - header.up);
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
    const struct predict_response response = {
        .us = us,
        .cycles = header.cycles,
        .captured = capture,
        .record = header.sequence,
        .total = stream_bytes(model->outputs, model->output_count),
        .data = read_outputs(model, arena, 0),
    };
    return encoded(cbor_encode_predict_response(exchange->response, exchange->room, &response,
                                                &exchange->response_size));
}

enum wire_reason command_predict(struct agent *agent, struct exchange *exchange) {
    struct agent_transfer *transfer = &agent->transfer;
    struct predict_request request;
    size_t used;
    const int error = cbor_decode_predict_request(exchange->request, exchange->request_size, &request, &used);

    if (decoded(exchange, error, used) != WIRE_OK) {
        return WIRE_MALFORMED;
    }
    const struct intaglio_model *model = model_at(agent, request.model);
    if (model == NULL) {
        return WIRE_NOT_FOUND;
    }
    transfer->finished = false;
    if (request.off == 0) {
        transfer->model = request.model;
        transfer->received = 0;
    }
    const uint32_t total = stream_bytes(model->inputs, model->input_count);
    if (request.model != transfer->model || request.off != transfer->received ||
        request.data.len > total - transfer->received) {
        return WIRE_OFFSET;
    }
    write_inputs(model, agent->arenas[request.model], request.off, request.data.value,
                 (uint32_t)request.data.len);
    transfer->received += (uint32_t)request.data.len;
    if (transfer->received == total) {
        transfer->received = 0;
        return run(agent, &request, exchange);
    }
    const struct predict_more response = {.off = transfer->received};
    return encoded(
        cbor_encode_predict_more(exchange->response, exchange->room, &response, &exchange->response_size));
}

enum wire_reason command_output(struct agent *agent, struct exchange *exchange) {
    struct output_request request;
    size_t used;
    const int error = cbor_decode_output_request(exchange->request, exchange->request_size, &request, &used);

    if (decoded(exchange, error, used) != WIRE_OK) {
        return WIRE_MALFORMED;
    }
    const struct intaglio_model *model = model_at(agent, request.model);
    if (model == NULL || !agent->transfer.finished || request.model != agent->transfer.model) {
        return WIRE_NOT_FOUND;
    }
    if (request.off >= stream_bytes(model->outputs, model->output_count)) {
        return WIRE_OFFSET;
    }
    const struct output_response response = {
        .off = request.off,
        .data = read_outputs(model, agent->arenas[request.model], request.off),
    };
    return encoded(
        cbor_encode_output_response(exchange->response, exchange->room, &response, &exchange->response_size));
}
