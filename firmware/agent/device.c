#include "commands.h"

#include <string.h>

#include "codec_decode.h"
#include "codec_encode.h"

enum { ID_BYTES = 32 };

struct zcbor_string wire_label(const char *text) {
    struct zcbor_string string = {.value = (const uint8_t *)text, .len = 0};

    while (string.len < WIRE_LABEL_BYTES && text[string.len] != '\0') {
        string.len++;
    }
    while (string.len > 0 && (string.value[string.len] & 0xC0u) == 0x80u) {
        string.len--;
    }
    return string;
}

uint64_t agent_wall(const struct agent *agent, uint64_t up) {
    return agent->epoch == 0 ? 0 : agent->epoch + up;
}

enum wire_reason command_hello(struct agent *agent, struct exchange *exchange) {
    struct hello_request request;
    uint8_t id[ID_BYTES];
    size_t used;
    const int error = cbor_decode_hello_request(exchange->request, exchange->request_size, &request, &used);

    if (decoded(exchange, error, used) != WIRE_OK) {
        return WIRE_MALFORMED;
    }
    if (!agent->greeted) {
        agent->greeted = true;
        agent->boot = request.nonce;
    }
    const struct hello_response response = {
        .nonce = request.nonce,
        .wire = WIRE_VERSION,
        .package = PACKAGE_VERSION,
        .abi = INTAGLIO_ABI_VERSION,
        .device = {.value = id, .len = hal_unique_id(id, sizeof id)},
        .boot = agent->boot,
        .board = wire_label(hal_board.name),
        .core = wire_label(hal_board.core),
        .clock = hal_board.clock_hz,
        .models = (uint32_t)agent->count,
        .frame = AGENT_FRAME_BYTES,
        .window = hal_board.rx_window,
        .ring = AGENT_CAPTURE_BYTES,
    };
    return encoded(
        cbor_encode_hello_response(exchange->response, exchange->room, &response, &exchange->response_size));
}

enum wire_reason command_heartbeat(struct agent *agent, struct exchange *exchange) {
    const uint64_t up = hal_time_us();
    const struct heartbeat response = {
        .up = up,
        .wall = agent_wall(agent, up),
        .bad = agent->counters.bad,
        .oversize = agent->counters.oversize,
        .lost = hal_serial_lost() - agent->counters.lost_before,
        .dropped = agent->ring.dropped,
        .invocations = agent->counters.invocations,
        .errors = agent->counters.errors,
        .faults = agent->counters.faults,
        .pending = agent->ring.pending,
        .stack = hal_stack_peak(),
        .cycles = agent->last_cycles,
    };
    return encoded(
        cbor_encode_heartbeat(exchange->response, exchange->room, &response, &exchange->response_size));
}

enum wire_reason command_reset_statistics(struct agent *agent, struct exchange *exchange) {
    memset(&agent->counters, 0, sizeof agent->counters);
    agent->counters.lost_before = hal_serial_lost();
    agent->ring.dropped = 0;
    return encoded(cbor_encode_nothing(exchange->response, exchange->room, NULL, &exchange->response_size));
}

enum wire_reason command_time_get(struct agent *agent, struct exchange *exchange) {
    const uint64_t up = hal_time_us();
    const struct time_response response = {.up = up, .wall = agent_wall(agent, up)};

    return encoded(
        cbor_encode_time_response(exchange->response, exchange->room, &response, &exchange->response_size));
}

enum wire_reason command_time_set(struct agent *agent, struct exchange *exchange) {
    struct time_request request;
    size_t used;
    const int error = cbor_decode_time_request(exchange->request, exchange->request_size, &request, &used);
    const uint64_t up = hal_time_us();

    if (decoded(exchange, error, used) != WIRE_OK || request.wall < up) {
        return WIRE_MALFORMED;
    }
    agent->epoch = request.wall - up;
    return command_time_get(agent, exchange);
}

enum wire_reason command_config_get(struct agent *agent, struct exchange *exchange) {
    const struct config response = {
        .every = agent->config.every,
        .policy = agent->config.policy,
        .beat = agent->config.beat,
    };
    return encoded(
        cbor_encode_config(exchange->response, exchange->room, &response, &exchange->response_size));
}

enum wire_reason command_config_set(struct agent *agent, struct exchange *exchange) {
    struct config request;
    size_t used;
    const int error = cbor_decode_config(exchange->request, exchange->request_size, &request, &used);

    if (decoded(exchange, error, used) != WIRE_OK) {
        return WIRE_MALFORMED;
    }
    agent->config.every = request.every;
    agent->config.policy = request.policy;
    agent->config.beat = request.beat;
    agent->until_sample = 0;
    agent->next_beat = hal_time_us();
    return command_config_get(agent, exchange);
}
