/* What the commands do, one function each. Their messages are decoded and encoded in agent.c. */
#ifndef INTAGLIO_COMMANDS_H
#define INTAGLIO_COMMANDS_H

#include "agent.h"
#include "codec.h"
#include "wire.h"

enum {
    ID_BYTES = 32, /* longest id of a chip */
    /* Most bytes of tensors or records in a message: header, CRC and the other fields take up to 72. */
    DATA_BYTES = AGENT_FRAME_BYTES - 72
};

/* A response: `as` holds the map that `map` says. Strings in it point to what outlives the call. */
struct answer {
    enum codec_map map; /* set before the call to that of the command's table */
    union codec_any as;
    uint8_t id[ID_BYTES];
};

/* `request` holds the map that the command's table says. */
typedef enum wire_reason command_handler(struct agent *agent, const union codec_any *request,
                                         struct answer *answer);

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

#ifdef AGENT_SLOTS
/* slots/load.c */
command_handler command_slot;
command_handler command_put_status;
command_handler command_put;
command_handler command_load;
command_handler command_unload;
#endif

#ifdef AGENT_JOURNAL
/* Takes the configuration that the journal keeps. */
void config_restore(struct agent *agent);
#endif

/* records.c */
command_handler command_capture_status;
command_handler command_capture_data;
command_handler command_capture_ack;

/* A name for the wire: what is too long is cut between two characters of UTF-8. */
struct zcbor_string wire_label(const char *text);

#endif
