#include "agent.h"

#include <string.h>

#include "commands.h"

enum {
    HEADER_BYTES = 8,
    OP_MASK = 0x07,
    VERSION_MASK = 0x18,
    VERSION_2 = 0x08,
    EVENT_BYTES = 160, /* holds the longest event with header and CRC */
    READ_BYTES = 64,
    BEAT_UNIT_US = 1000
};

struct command {
    command_handler *handle;
    uint8_t group;
    uint8_t id;
    uint8_t op;
    uint8_t request;  /* enum codec_map */
    uint8_t response; /* enum codec_map; the handler may choose another */
};

#define DEVICE(id, op, request, response, handle)                                                            \
    {command_##handle, WIRE_GROUP_DEVICE, WIRE_##id, WIRE_##op, CODEC_##request, CODEC_##response}
#define MODEL(id, op, request, response, handle)                                                             \
    {command_##handle, WIRE_GROUP_MODEL, WIRE_##id, WIRE_##op, CODEC_##request, CODEC_##response}
#define CAPTURE(id, op, request, response, handle)                                                           \
    {command_##handle, WIRE_GROUP_CAPTURE, WIRE_##id, WIRE_##op, CODEC_##request, CODEC_##response}

static const struct command commands[] = {
    DEVICE(HELLO, WRITE, HELLO_REQUEST, HELLO_RESPONSE, hello),
    DEVICE(HEARTBEAT, READ, NOTHING, HEARTBEAT, heartbeat),
    DEVICE(TIME, READ, NOTHING, TIME_RESPONSE, time_get),
    DEVICE(TIME, WRITE, TIME_REQUEST, TIME_RESPONSE, time_set),
    DEVICE(CONFIG, READ, NOTHING, CONFIG, config_get),
    DEVICE(CONFIG, WRITE, CONFIG, CONFIG, config_set),
    DEVICE(RESET_STATISTICS, WRITE, NOTHING, NOTHING, reset_statistics),
    MODEL(LIST, READ, LIST_REQUEST, LIST_RESPONSE, list),
    MODEL(DESCRIBE, READ, DESCRIBE_REQUEST, DESCRIBE_RESPONSE, describe),
    MODEL(PREDICT, WRITE, PREDICT_REQUEST, PREDICT_MORE, predict),
    MODEL(OUTPUT, READ, OUTPUT_REQUEST, OUTPUT_RESPONSE, output),
#ifdef AGENT_SLOTS
    MODEL(SLOT, READ, SLOT_REQUEST, SLOT_RESPONSE, slot),
    MODEL(PUT, READ, SLOT_REQUEST, PUT_STATUS, put_status),
    MODEL(PUT, WRITE, PUT_REQUEST, PUT_RESPONSE, put),
    MODEL(LOAD, WRITE, LOAD_REQUEST, LOAD_RESPONSE, load),
    MODEL(UNLOAD, WRITE, UNLOAD_REQUEST, NOTHING, unload),
#endif
    CAPTURE(CAPTURE_STATUS, READ, NOTHING, CAPTURE_STATUS, capture_status),
    CAPTURE(CAPTURE_DATA, READ, CAPTURE_REQUEST, CAPTURE_RESPONSE, capture_data),
    CAPTURE(CAPTURE_ACK, WRITE, ACK_REQUEST, ACK_RESPONSE, capture_ack),
};

/* Completes the message whose map of `length` bytes stands behind HEADER_BYTES; returns the length of it all.
 */
static size_t write_header(uint8_t *message, uint8_t op, size_t length, const uint8_t group[2],
                           uint8_t sequence, uint8_t id) {
    message[0] = (uint8_t)(VERSION_2 | op);
    message[1] = 0;
    message[2] = (uint8_t)(length >> 8);
    message[3] = (uint8_t)length;
    message[4] = group[0];
    message[5] = group[1];
    message[6] = sequence;
    message[7] = id;
    return HEADER_BYTES + length;
}

static void send_event(struct agent *agent, uint8_t id, const struct answer *event) {
    static const uint8_t group[2] = {0, WIRE_GROUP_DEVICE};
    uint8_t message[EVENT_BYTES];
    const size_t length =
        codec_encode(event->map, &event->as, &message[HEADER_BYTES], EVENT_BYTES - HEADER_BYTES - CRC_BYTES);

    frame_send(message, write_header(message, WIRE_WRITE, length, group, agent->event_sequence++, id));
}

static void send_boot(struct agent *agent) {
    static const uint8_t delimiter = 0;
    struct answer event = {.map = CODEC_BOOT_EVENT};

    /* Ends what a frame cut off by the reset has left on the line. */
    hal_serial_write(&delimiter, 1);
    event.as.boot_event.wire = WIRE_VERSION;
    event.as.boot_event.device.value = event.id;
    event.as.boot_event.device.len = hal_unique_id(event.id, ID_BYTES);
    send_event(agent, WIRE_BOOT_EVENT, &event);
}

static void send_fault(struct agent *agent) {
    struct answer event = {.map = CODEC_FAULT_EVENT};
    struct fault_event *to = &event.as.fault_event;

    _Static_assert(sizeof agent->fault == sizeof to->kind + sizeof to->u32_m,
                   "kind and the registers, in order");
    to->kind = agent->fault.kind;
    memcpy(to->u32_m, &agent->fault.r0, sizeof to->u32_m);
    to->u32_m_count = sizeof to->u32_m / sizeof to->u32_m[0];
    send_event(agent, WIRE_FAULT_EVENT, &event);
}

static bool send_beat(struct agent *agent) {
    struct answer event = {.map = CODEC_HEARTBEAT};
    const uint64_t now = hal_time_us();

    if (agent->config.beat == 0 || now < agent->next_beat) {
        return false;
    }
    agent->next_beat = now + (uint64_t)agent->config.beat * BEAT_UNIT_US;
    (void)command_heartbeat(agent, &event.as, &event);
    send_event(agent, WIRE_HEARTBEAT, &event);
    return true;
}

static enum wire_reason obey(struct agent *agent, const uint8_t *message, size_t length,
                             struct answer *answer) {
    const uint8_t *map = &message[HEADER_BYTES];
    const size_t map_bytes = length - HEADER_BYTES;
    union codec_any request;

    if ((message[0] & VERSION_MASK) != VERSION_2 || ((size_t)message[2] << 8 | message[3]) != map_bytes) {
        return WIRE_MALFORMED;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        const struct command *command = &commands[i];

        if (message[4] == 0 && message[5] == command->group && message[7] == command->id &&
            (message[0] & OP_MASK) == command->op) {
            answer->map = (enum codec_map)command->response;
            return codec_decode((enum codec_map)command->request, map, map_bytes, &request)
                       ? command->handle(agent, &request, answer)
                       : WIRE_MALFORMED;
        }
    }
    return WIRE_UNSUPPORTED;
}

/* The error response of SMP version 2, {"err": {"group": group, "rc": reason}}: with text keys, unlike all
 * other maps, and of one length. */
static size_t write_error(uint8_t *map, const uint8_t group[2], enum wire_reason reason) {
    static const uint8_t pattern[] = {
        0xA1, 0x63, 'e', 'r', 'r', 0xA2, 0x65, 'g', 'r', 'o', 'u', 'p', 0x19, 0, 0, 0x62, 'r', 'c', 0,
    };
    enum { GROUP_AT = 13, REASON_AT = 18 };

    memcpy(map, pattern, sizeof pattern);
    map[GROUP_AT] = group[0];
    map[GROUP_AT + 1] = group[1];
    map[REASON_AT] = (uint8_t)reason;
    return sizeof pattern;
}

static void respond(struct agent *agent, const uint8_t *message, size_t length) {
    uint8_t *map = &agent->out[HEADER_BYTES];
    size_t map_bytes = 0;
    struct answer answer;
    enum wire_reason reason = obey(agent, message, length, &answer);

    if (reason == WIRE_OK) {
        map_bytes = codec_encode(answer.map, &answer.as, map, AGENT_FRAME_BYTES - HEADER_BYTES - CRC_BYTES);
        reason = map_bytes == 0 ? WIRE_UNKNOWN : WIRE_OK;
    }
    if (reason != WIRE_OK) {
        map_bytes = write_error(map, &message[4], reason);
    }
    agent->response_length = write_header(agent->out, (uint8_t)((message[0] & OP_MASK) + 1u), map_bytes,
                                          &message[4], message[6], message[7]);
}

static void take_message(struct agent *agent) {
    const uint8_t *message = agent->in.bytes;
    const size_t length = agent->in.length;
    const bool greeted = agent->greeted;

    if (length < HEADER_BYTES) {
        agent->counters.bad++;
        return;
    }
    if ((message[0] & OP_MASK) != WIRE_READ && (message[0] & OP_MASK) != WIRE_WRITE) {
        return; /* not a request: an echo of our own, or another protocol */
    }
    const uint32_t crc = crc32(message, length);
    const bool repeated =
        agent->response_length != 0 && crc == agent->request_crc && message[6] == agent->out[6];
    if (!repeated) {
        agent->request_crc = crc;
        respond(agent, message, length);
    }
    frame_send(agent->out, agent->response_length);
    if (agent->fault_waiting && !greeted && agent->greeted) {
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
#ifdef AGENT_JOURNAL
    journal_open(&agent->journal);
    boot_count(&agent->journal, &agent->boot_record);
    config_restore(agent);
#endif
#ifdef AGENT_SLOTS
    slots_start(&agent->slots, &agent->journal, (uint32_t)count);
#endif
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
