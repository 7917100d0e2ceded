/* What the commands do, one function each; agent.c carries their messages. */
#ifndef INTAGLIO_COMMANDS_H
#define INTAGLIO_COMMANDS_H

#include "agent.h"
#include "wire.h"
#include "zcbor_common.h"

/* The CBOR maps of a request and of its response. */
struct exchange {
    const uint8_t *request;
    size_t request_size;
    uint8_t *response;
    size_t room;
    size_t response_size;
};

typedef enum wire_reason command_handler(struct agent *agent, struct exchange *exchange);

/* device.c */
command_handler command_hello;
command_handler command_heartbeat;
command_handler command_reset_statistics;
command_handler command_time_set;
command_handler command_time_get;
command_handler command_config_set;
command_handler command_config_get;

/* models.c */
command_handler command_list;
command_handler command_describe;
command_handler command_predict;
command_handler command_output;

/* records.c */
command_handler command_capture_status;
command_handler command_capture_data;
command_handler command_capture_ack;

/* Most bytes of tensors or records in one message: the frame less header, CRC and the other fields. */
enum { DATA_BYTES = AGENT_FRAME_BYTES - 64 };

/* The verdict on a request from what the decoder says of it: the map must be the whole of it. */
static inline enum wire_reason decoded(const struct exchange *exchange, int error, size_t used) {
    return error == 0 && used == exchange->request_size ? WIRE_OK : WIRE_MALFORMED;
}

/* What the encoders cannot do is a fault of ours, never of the host's: every response fits by construction.
 */
static inline enum wire_reason encoded(int error) {
    return error == 0 ? WIRE_OK : WIRE_UNKNOWN;
}

/* A name for the wire: what is too long is cut between two characters of UTF-8. */
struct zcbor_string wire_label(const char *text);

/* Microseconds since 1970 at `up` microseconds after the reset; 0 while the host has not set the time. */
uint64_t agent_wall(const struct agent *agent, uint64_t up);

#endif
