#include "commands.h"

#include "codec_decode.h"
#include "codec_encode.h"

enum wire_reason command_capture_status(struct agent *agent, struct exchange *exchange) {
    const struct capture_status response = {
        .pending = agent->ring.pending,
        .used = agent->ring.used,
        .dropped = agent->ring.dropped,
        .next = agent->ring.next,
    };
    return encoded(
        cbor_encode_capture_status(exchange->response, exchange->room, &response, &exchange->response_size));
}

enum wire_reason command_capture_data(struct agent *agent, struct exchange *exchange) {
    struct capture_request request;
    struct capture_header header;
    uint32_t at;
    size_t used;
    const int error = cbor_decode_capture_request(exchange->request, exchange->request_size, &request, &used);

    if (decoded(exchange, error, used) != WIRE_OK) {
        return WIRE_MALFORMED;
    }
    if (!capture_find(&agent->ring, request.least, &at, &header) ||
        (request.off != 0 && header.sequence != request.least)) {
        return WIRE_NOT_FOUND;
    }
    if (request.off > header.total) {
        return WIRE_OFFSET;
    }
    uint32_t size = header.total - request.off < DATA_BYTES ? header.total - request.off : DATA_BYTES;
    const uint8_t *bytes = capture_bytes(&agent->ring, at, request.off, &size);
    const struct capture_response response = {
        .seq = header.sequence,
        .model = header.model,
        .up = header.up,
        .cycles = header.cycles,
        .total = header.total,
        .off = request.off,
        .data = {.value = bytes, .len = size},
    };
    return encoded(cbor_encode_capture_response(exchange->response, exchange->room, &response,
                                                &exchange->response_size));
}

enum wire_reason command_capture_ack(struct agent *agent, struct exchange *exchange) {
    struct ack_request request;
    size_t used;
    const int error = cbor_decode_ack_request(exchange->request, exchange->request_size, &request, &used);

    if (decoded(exchange, error, used) != WIRE_OK) {
        return WIRE_MALFORMED;
    }
    if (!agent->greeted || request.boot != agent->boot) {
        return WIRE_OTHER_BOOT;
    }
    capture_acknowledge(&agent->ring, request.seq);
    const struct ack_response response = {.pending = agent->ring.pending};

    return encoded(
        cbor_encode_ack_response(exchange->response, exchange->room, &response, &exchange->response_size));
}
