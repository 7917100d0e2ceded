#include "commands.h"

enum wire_reason command_capture_status(struct agent *agent, const union codec_any *request,
                                        struct answer *answer) {
    struct capture_status *to = &answer->as.capture_status;

    (void)request;
    to->pending = agent->ring.pending;
    to->used = agent->ring.used;
    to->dropped = agent->ring.dropped;
    to->next = agent->ring.next;
    return WIRE_OK;
}

enum wire_reason command_capture_data(struct agent *agent, const union codec_any *request,
                                      struct answer *answer) {
    const uint32_t least = request->capture_request.least;
    const uint32_t offset = request->capture_request.off;
    struct capture_response *to = &answer->as.capture_response;
    struct capture_header header;
    uint32_t at;

    if (!agent->greeted) {
        return WIRE_OTHER_BOOT;
    }
    if (!capture_find(&agent->ring, least, &at, &header) || (offset != 0 && header.sequence != least)) {
        return WIRE_NOT_FOUND;
    }
    if (offset > header.total) {
        return WIRE_OFFSET;
    }
    uint32_t size = header.total - offset < DATA_BYTES ? header.total - offset : DATA_BYTES;
    to->data.value = capture_bytes(&agent->ring, at, offset, &size);
    to->data.len = size;
    to->boot = agent->boot;
    to->seq = header.sequence;
    to->model = header.model;
    to->up = header.up;
    to->cycles = header.cycles;
    to->total = header.total;
    to->off = offset;
    return WIRE_OK;
}

enum wire_reason command_capture_ack(struct agent *agent, const union codec_any *request,
                                     struct answer *answer) {
    if (!agent->greeted || request->ack_request.boot != agent->boot) {
        return WIRE_OTHER_BOOT;
    }
    capture_acknowledge(&agent->ring, request->ack_request.seq);
    answer->as.ack_response.pending = agent->ring.pending;
    return WIRE_OK;
}
