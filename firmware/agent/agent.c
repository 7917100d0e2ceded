#include "agent.h"

#include <string.h>

#include "codec_decode.h"
#include "codec_encode.h"
#include "commands.h"

enum {
    HEADER_BYTES = 8,
    OP_MASK = 0x07,
    VERSION_MASK = 0x18,
    VERSION_2 = 0x08,
    EVENT_BYTES = 176, /* the longest event, a fault, with header and CRC */
    READ_BYTES = 64,
    BEAT_UNIT_US = 1000
};

struct command {
    uint8_t group;
    uint8_t id;
    uint8_t op;
    bool bare; /* takes no arguments */
    command_handler *handle;
};

static const struct command commands[] = {
    {WIRE_GROUP_DEVICE, WIRE_HELLO, WIRE_WRITE, false, command_hello},
    {WIRE_GROUP_DEVICE, WIRE_HEARTBEAT, WIRE_READ, true, command_heartbeat},
    {WIRE_GROUP_DEVICE, WIRE_TIME, WIRE_READ, true, command_time_get},
    {WIRE_GROUP_DEVICE, WIRE_TIME, WIRE_WRITE, false, command_time_set},
    {WIRE_GROUP_DEVICE, WIRE_CONFIG, WIRE_READ, true, command_config_get},
    {WIRE_GROUP_DEVICE, WIRE_CONFIG, WIRE_WRITE, false, command_config_set},
    {WIRE_GROUP_DEVICE, WIRE_RESET_STATISTICS, WIRE_WRITE, true, command_reset_statistics},
    {WIRE_GROUP_MODEL, WIRE_LIST, WIRE_READ, false, command_list},
    {WIRE_GROUP_MODEL, WIRE_DESCRIBE, WIRE_READ, false, command_describe},
    {WIRE_GROUP_MODEL, WIRE_PREDICT, WIRE_WRITE, false, command_predict},
    {WIRE_GROUP_MODEL, WIRE_OUTPUT, WIRE_READ, false, command_output},
    {WIRE_GROUP_CAPTURE, WIRE_CAPTURE_STATUS, WIRE_READ, true, command_capture_status},
    {WIRE_GROUP_CAPTURE, WIRE_CAPTURE_DATA, WIRE_READ, false, command_capture_data},
    {WIRE_GROUP_CAPTURE, WIRE_CAPTURE_ACK, WIRE_WRITE, false, command_capture_ack},
};

static void write_header(uint8_t *message, uint8_t op, size_t length, uint16_t group, uint8_t sequence,
                         uint8_t id) {
    message[0] = (uint8_t)(VERSION_2 | op);
    message[1] = 0;
    message[2] = (uint8_t)(length >> 8);
    message[3] = (uint8_t)length;
    message[4] = (uint8_t)(group >> 8);
    message[5] = (uint8_t)group;
    message[6] = sequence;
    message[7] = id;
}

static void send_event(struct agent *agent, uint8_t *message, uint8_t id, size_t length) {
    write_header(message, WIRE_WRITE, length, WIRE_GROUP_DEVICE, agent->event_sequence++, id);
    frame_send(message, HEADER_BYTES + length);
}

static void send_boot(struct agent *agent) {
    uint8_t message[EVENT_BYTES];
    uint8_t id[32];
    size_t length;
    const struct boot_event event = {
        .wire = WIRE_VERSION,
        .device = {.value = id, .len = hal_unique_id(id, sizeof id)},
    };
    static const uint8_t delimiter = 0;

    /* Ends what a frame cut off by the reset has left on the line. */
    hal_serial_write(&delimiter, 1);
    if (cbor_encode_boot_event(&message[HEADER_BYTES], EVENT_BYTES - HEADER_BYTES - CRC_BYTES, &event,
                               &length) == 0) {
        send_event(agent, message, WIRE_BOOT_EVENT, length);
    }
}

static void send_fault(struct agent *agent) {
    const struct hal_fault *fault = &agent->fault;
    uint8_t message[EVENT_BYTES];
    size_t length;
    const struct fault_event event = {
        .kind = fault->kind,
        .u32_m = {fault->r0, fault->r1, fault->r2, fault->r3, fault->r12, fault->lr, fault->pc, fault->xpsr,
                  fault->sp, fault->exc_return, fault->cfsr, fault->hfsr, fault->mmfar, fault->bfar},
        .u32_m_count = 14,
    };

    if (cbor_encode_fault_event(&message[HEADER_BYTES], EVENT_BYTES - HEADER_BYTES - CRC_BYTES, &event,
                                &length) == 0) {
        send_event(agent, message, WIRE_FAULT_EVENT, length);
    }
}

static bool send_beat(struct agent *agent) {
    uint8_t message[EVENT_BYTES];
    struct exchange exchange = {
        .response = &message[HEADER_BYTES],
        .room = EVENT_BYTES - HEADER_BYTES - CRC_BYTES,
    };

    if (agent->config.beat == 0 || hal_time_us() < agent->next_beat) {
        return false;
    }
    agent->next_beat = hal_time_us() + (uint64_t)agent->config.beat * BEAT_UNIT_US;
    if (command_heartbeat(agent, &exchange) == WIRE_OK) {
        send_event(agent, message, WIRE_HEARTBEAT, exchange.response_size);
    }
    return true;
}

static bool is_empty_map(const struct exchange *exchange) {
    size_t used;
    const int error = cbor_decode_nothing(exchange->request, exchange->request_size, NULL, &used);

    return decoded(exchange, error, used) == WIRE_OK;
}

static enum wire_reason obey(struct agent *agent, uint16_t group, uint8_t id, uint8_t op,
                             struct exchange *exchange) {
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        const struct command *command = &commands[i];

        if (command->group == group && command->id == id && command->op == op) {
            if (command->bare && !is_empty_map(exchange)) {
                return WIRE_MALFORMED;
            }
            return command->handle(agent, exchange);
        }
    }
    return WIRE_UNSUPPORTED;
}

static void respond(struct agent *agent, const uint8_t *message, size_t length) {
    const uint8_t op = message[0] & OP_MASK;
    const uint16_t group = (uint16_t)(message[4] << 8 | message[5]);
    const size_t announced = (size_t)message[2] << 8 | message[3];
    struct exchange exchange = {
        .request = &message[HEADER_BYTES],
        .request_size = length - HEADER_BYTES,
        .response = &agent->out[HEADER_BYTES],
        .room = AGENT_FRAME_BYTES - HEADER_BYTES - CRC_BYTES,
    };
    enum wire_reason reason = WIRE_MALFORMED;

    if ((message[0] & VERSION_MASK) == VERSION_2 && announced == exchange.request_size) {
        reason = obey(agent, group, message[7], op, &exchange);
    }
    if (reason != WIRE_OK) {
        const struct error_response response = {.err = {.group = group, .rc = (uint32_t)reason}};

        (void)cbor_encode_error_response(exchange.response, exchange.room, &response,
                                         &exchange.response_size);
    }
    write_header(agent->out, (uint8_t)(op + 1u), exchange.response_size, group, message[6], message[7]);
    agent->response_length = HEADER_BYTES + exchange.response_size;
}

static void take_message(struct agent *agent) {
    const uint8_t *message = agent->in.bytes;
    const size_t length = agent->in.length;
    const bool first = !agent->greeted;

    if (length < HEADER_BYTES) {
        agent->counters.bad++;
        return;
    }
    const uint8_t op = message[0] & OP_MASK;
    if (op != WIRE_READ && op != WIRE_WRITE) {
        return; /* not a request: an echo of our own, or noise of another protocol */
    }
    const uint32_t crc = crc32(message, length);
    const bool repeated =
        agent->response_length != 0 && crc == agent->request_crc && message[6] == agent->out[6];
    if (!repeated) {
        agent->request_crc = crc;
        respond(agent, message, length);
    }
    frame_send(agent->out, agent->response_length);
    if (first && agent->greeted && agent->fault_waiting) {
        agent->fault_waiting = false;
        send_fault(agent);
    }
}

void agent_init(struct agent *agent, const struct intaglio_model *const *models, size_t count,
                void *const *arenas) {
    memset(agent, 0, sizeof *agent);
    agent->models = models;
    agent->arenas = arenas;
    agent->count = count;
    agent->config.every = 1;
    agent->config.policy = CAPTURE_DROP_OLDEST;
    for (size_t i = 0; i < count; i++) {
        models[i]->reset(arenas[i]);
    }
    send_boot(agent);
    agent->fault_waiting = hal_fault_take(&agent->fault);
    if (agent->fault_waiting) {
        agent->counters.faults = 1;
        send_fault(agent);
    }
}

bool agent_step(struct agent *agent) {
    uint8_t bytes[READ_BYTES];
    const size_t count = hal_serial_read(bytes, sizeof bytes);

    for (size_t i = 0; i < count; i++) {
        switch (frame_push(&agent->in, bytes[i])) {
        case FRAME_COMPLETE:
            take_message(agent);
            break;
        case FRAME_BAD:
            agent->counters.bad++;
            break;
        case FRAME_OVERSIZE:
            agent->counters.oversize++;
            break;
        case FRAME_PARTIAL:
            break;
        }
    }
    const bool beaten = send_beat(agent);
    hal_watchdog_feed();
    return count != 0 || beaten;
}

_Noreturn void agent_run(const struct intaglio_model *const *models, size_t count, void *const *arenas) {
    static struct agent agent;

    hal_init();
    agent_init(&agent, models, count, arenas);
    for (;;) {
        if (!agent_step(&agent)) {
            hal_idle();
        }
    }
}
