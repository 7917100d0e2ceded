#include "manifest.h"

#include <string.h>

#include <zcbor_decode.h>

/* Keys of host/package.cddl. */
enum {
    FORMAT = 4,
    NAME,
    VERSION,
    COUNTER,
    BOARD,
    CORE,
    CONTRACT,
    ABI,
    ARENA,
    STATE,
    STACK,
    GRAPH,
    DETAILS,
    KEY,
    SLOTS,
    ADDRESS,
    SIZE,
    DIGEST
};

enum { LABEL_BYTES = 64, DIGEST_BYTES = 32, ID_BYTES = 8, SLOTS_MOST = 8 };

/* The current state, one for each of the map, the list and a map in it, and one that zcbor keeps for itself.
 */
enum { STATES = 5 };

static bool number(zcbor_state_t *state, uint32_t key, uint32_t *to) {
    return zcbor_uint32_expect(state, key) && zcbor_uint32_decode(state, to);
}

static bool label(zcbor_state_t *state, uint32_t key, struct zcbor_string *to) {
    return zcbor_uint32_expect(state, key) && zcbor_tstr_decode(state, to) && to->len >= 1 &&
           to->len <= LABEL_BYTES;
}

static bool bytes_of(zcbor_state_t *state, uint32_t key, size_t count, struct zcbor_string *to) {
    return zcbor_uint32_expect(state, key) && zcbor_bstr_decode(state, to) && to->len == count;
}

static bool slot_list(zcbor_state_t *state, uint32_t wanted, struct manifest *to) {
    uint32_t count = 0;

    if (!zcbor_uint32_expect(state, SLOTS) || !zcbor_list_start_decode(state)) {
        return false;
    }
    while (!zcbor_array_at_end(state)) {
        struct zcbor_string digest;
        uint32_t address, size;

        if (count++ == SLOTS_MOST || !zcbor_map_start_decode(state) || !number(state, ADDRESS, &address) ||
            !number(state, SIZE, &size) || !bytes_of(state, DIGEST, DIGEST_BYTES, &digest) ||
            !zcbor_map_end_decode(state)) {
            return false;
        }
        if (address == wanted) {
            to->image_bytes = size;
            to->digest = digest;
        }
    }
    return zcbor_list_end_decode(state);
}

bool manifest_read(const uint8_t *from, size_t bytes, uint32_t address, struct manifest *to) {
    struct zcbor_string skipped;
    zcbor_state_t s[STATES];

    memset(to, 0, sizeof *to);
    zcbor_new_state(s, STATES, from, bytes, 1, NULL, 0);
    return zcbor_map_start_decode(s) && number(s, FORMAT, &to->format) && label(s, NAME, &to->name) &&
           label(s, VERSION, &to->version) && number(s, COUNTER, &to->counter) &&
           label(s, BOARD, &to->board) && label(s, CORE, &to->core) && label(s, CONTRACT, &skipped) &&
           number(s, ABI, &to->abi) && number(s, ARENA, &to->arena) && number(s, STATE, &to->state) &&
           number(s, STACK, &to->stack) && bytes_of(s, GRAPH, DIGEST_BYTES, &to->graph) &&
           bytes_of(s, DETAILS, DIGEST_BYTES, &skipped) && bytes_of(s, KEY, ID_BYTES, &to->key) &&
           slot_list(s, address, to) && zcbor_map_end_decode(s) && s->payload == from + bytes;
}
