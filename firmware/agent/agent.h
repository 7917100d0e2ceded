/* The agent: answers the wire protocol (docs/protocol.md) for the models that are linked in. It owns the
 * serial line of the HAL, works without heap and without floating point, and trusts no byte that comes from
 * the line. */
#ifndef INTAGLIO_AGENT_H
#define INTAGLIO_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hal.h"
#include "intaglio_abi.h"

#include "capture.h"
#include "codec.h"
#include "framing.h"
#ifdef AGENT_JOURNAL
#include "boot.h"
#endif
#ifdef AGENT_SLOTS
#include "slots.h"
#endif

struct agent_counters {
    uint32_t bad;         /* frames whose COBS or CRC was wrong */
    uint32_t oversize;    /* frames longer than AGENT_FRAME_BYTES */
    uint32_t lost_before; /* hal_serial_lost() when the counters were reset */
    uint32_t invocations;
    uint32_t errors; /* invocations that returned a negative status */
    uint32_t faults; /* 1 when a fault ended the last boot */
};

/* The prediction under way or just made. */
struct agent_transfer {
    uint32_t model;
    uint32_t received; /* bytes of the input stream so far */
    bool finished;     /* the outputs are those of `model` and may be read */
};

struct agent {
    const struct intaglio_model *const *models;
    void *const *arenas;
    size_t count;

    uint64_t boot;  /* identifier of this boot; valid when `greeted` */
    uint64_t epoch; /* microseconds since 1970 at time 0 of the HAL; 0 until the host has set the time */
    uint64_t next_beat;
    uint32_t last_cycles;
    uint32_t until_sample; /* predictions asking for capture that are passed over before the next record */
    struct config config;  /* of protocol.cddl */
    struct agent_counters counters;
    struct agent_transfer transfer;
    struct hal_fault fault;
    bool greeted;
    bool fault_waiting;
    uint8_t event_sequence;

    /* The last request and its response, which stays in `out`: a repeated request is answered again, not
     * obeyed again, since invoke may have destroyed the inputs. */
    uint32_t request_crc;
    size_t response_length;

    struct frame_reader in;
#ifdef AGENT_JOURNAL
    struct journal journal;
    struct boot_record boot_record;
#endif
#ifdef AGENT_SLOTS
    struct slots slots;
#endif
    uint8_t out[AGENT_FRAME_BYTES];
    struct capture_ring ring;
};

/* Resets every model and sends the boot event. `arenas[i]` is 8-byte aligned working memory of
 * models[i]->arena_bytes bytes; no two may overlap, as the state of a model lives in its arena. */
void agent_init(struct agent *agent, const struct intaglio_model *const *models, size_t count,
                void *const *arenas);

/* Takes in the bytes that wait and answers the requests that they complete. True when there was anything to
 * do: else the caller may sleep. */
bool agent_step(struct agent *agent);

/* hal_init, agent_init, and agent_step for ever. */
_Noreturn void agent_run(const struct intaglio_model *const *models, size_t count, void *const *arenas);

#endif
