#include "commands.h"

#include <string.h>

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

/* Microseconds since 1970 at `up` microseconds after the reset; 0 while the host has not set the time. */
static uint64_t wall(const struct agent *agent, uint64_t up) {
    return agent->epoch == 0 ? 0 : agent->epoch + up;
}

enum wire_reason command_hello(struct agent *agent, const union codec_any *request, struct answer *answer) {
    const uint64_t nonce = request->hello_request.nonce;
    struct hello_response *to = &answer->as.hello_response;

    if (!agent->greeted) {
        agent->greeted = true;
        agent->boot = nonce;
#ifdef AGENT_JOURNAL
        agent->boot = boot_identifier(&agent->journal, &agent->boot_record, nonce);
#endif
    }
#ifdef AGENT_SLOTS
    agent->transfer.received = 0; /* inputs that the session before has left keep no model from going */
#endif
    to->nonce = nonce;
    to->wire = WIRE_VERSION;
    to->package = PACKAGE_VERSION;
    to->abi = INTAGLIO_ABI_VERSION;
    to->device.value = answer->id;
    to->device.len = hal_unique_id(answer->id, ID_BYTES);
    to->boot = agent->boot;
    to->board = wire_label(hal_board.name);
    to->core = wire_label(hal_board.core);
    to->clock = hal_board.clock_hz;
    to->models = (uint32_t)agent->count;
    to->frame = AGENT_FRAME_BYTES;
    to->window = hal_board.rx_window;
    to->ring = AGENT_CAPTURE_BYTES;
    return WIRE_OK;
}

enum wire_reason command_heartbeat(struct agent *agent, const union codec_any *request,
                                   struct answer *answer) {
    const struct agent_counters *counters = &agent->counters;
    struct heartbeat *to = &answer->as.heartbeat;

    (void)request;
    to->up = hal_time_us();
    to->wall = wall(agent, to->up);
    to->bad = counters->bad;
    to->oversize = counters->oversize;
    to->lost = hal_serial_lost() - counters->lost_before;
    to->dropped = agent->ring.dropped;
    to->invocations = counters->invocations;
    to->errors = counters->errors;
    to->faults = counters->faults;
    to->pending = agent->ring.pending;
    to->stack = hal_stack_peak();
    to->cycles = agent->last_cycles;
    return WIRE_OK;
}

enum wire_reason command_reset_statistics(struct agent *agent, const union codec_any *request,
                                          struct answer *answer) {
    (void)request;
    (void)answer;
    memset(&agent->counters, 0, sizeof agent->counters);
    agent->counters.lost_before = hal_serial_lost();
    agent->ring.dropped = 0;
    return WIRE_OK;
}

enum wire_reason command_time_get(struct agent *agent, const union codec_any *request,
                                  struct answer *answer) {
    (void)request;
    answer->as.time_response.up = hal_time_us();
    answer->as.time_response.wall = wall(agent, answer->as.time_response.up);
    return WIRE_OK;
}

enum wire_reason command_time_set(struct agent *agent, const union codec_any *request,
                                  struct answer *answer) {
    const uint64_t up = hal_time_us();

    if (request->time_request.wall < up) {
        return WIRE_MALFORMED;
    }
    agent->epoch = request->time_request.wall - up;
    answer->as.time_response.up = up;
    answer->as.time_response.wall = request->time_request.wall;
    return WIRE_OK;
}

enum wire_reason command_config_get(struct agent *agent, const union codec_any *request,
                                    struct answer *answer) {
    (void)request;
    answer->as.config = agent->config;
    return WIRE_OK;
}

#ifdef AGENT_JOURNAL
void config_restore(struct agent *agent) {
    const void *value;

    if (journal_find(&agent->journal, JOURNAL_CONFIG, &value) == sizeof agent->config) {
        memcpy(&agent->config, value, sizeof agent->config);
    }
}
#endif

enum wire_reason command_config_set(struct agent *agent, const union codec_any *request,
                                    struct answer *answer) {
#ifdef AGENT_JOURNAL
    if (memcmp(&agent->config, &request->config, sizeof agent->config) != 0 &&
        !journal_write(&agent->journal, JOURNAL_CONFIG, &request->config, sizeof request->config)) {
        return WIRE_FLASH;
    }
#endif
    agent->config = request->config;
    agent->until_sample = 0;
    agent->next_beat = hal_time_us();
    return command_config_get(agent, request, answer);
}
