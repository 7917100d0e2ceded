#include "codec.h"

#include <zcbor_decode.h>
#include <zcbor_encode.h>

enum codec_kind {
    CODEC_U32,
    CODEC_U64,
    CODEC_I32,
    CODEC_BOOL,
    CODEC_BYTES,
    CODEC_TEXT,
    CODEC_ARRAY_U32,
    CODEC_ARRAY_I32,
    CODEC_COUNT /* belongs to the array in the row before */
};

struct codec_field {
    uint8_t key;
    uint8_t kind;
    uint8_t bound;  /* largest value, length or count; 0: no bound but that of the type */
    uint8_t offset; /* in its struct */
};

#include "codec_tables.h"

_Static_assert(sizeof(union codec_any) <= UINT8_MAX, "offsets take a byte");

/* States of zcbor: the current one, a backup for the map, and one that it keeps for its own use. */
enum { STATES = 3 };

static bool decode_value(zcbor_state_t *state, const struct codec_field *field, void *to) {
    switch (field->kind) {
    case CODEC_U32:
        return zcbor_uint32_decode(state, to) && (field->bound == 0 || *(uint32_t *)to <= field->bound);
    case CODEC_U64:
        return zcbor_uint64_decode(state, to);
    case CODEC_BOOL:
        return zcbor_bool_decode(state, to);
    case CODEC_BYTES:
        return zcbor_bstr_decode(state, to) &&
               (field->bound == 0 || ((struct zcbor_string *)to)->len <= field->bound);
    default:
        return false;
    }
}

bool codec_decode(enum codec_map map, const uint8_t *from, size_t size, union codec_any *to) {
    zcbor_state_t states[STATES];

    zcbor_new_state(states, STATES, from, size, 1, NULL, 0);
    if (!zcbor_map_start_decode(states)) {
        return false;
    }
    for (size_t i = codec_starts[map]; i < codec_starts[map + 1]; i++) {
        const struct codec_field *field = &codec_fields[i];

        if (!zcbor_uint32_expect(states, field->key) ||
            !decode_value(states, field, (uint8_t *)to + field->offset)) {
            return false;
        }
    }
    return zcbor_map_end_decode(states) && states->payload == from + size;
}

static bool encode_array(zcbor_state_t *state, const struct codec_field *field, const uint8_t *base) {
    const uint8_t *at = base + field[0].offset;
    const size_t count = *(const size_t *)(const void *)(base + field[1].offset);
    bool good = zcbor_list_start_encode(state, count);

    for (size_t i = 0; i < count; i++) {
        good = good && (field->kind == CODEC_ARRAY_U32
                            ? zcbor_uint32_encode(state, (const uint32_t *)(const void *)at + i)
                            : zcbor_int32_encode(state, (const int32_t *)(const void *)at + i));
    }
    return good && zcbor_list_end_encode(state, count);
}

static bool encode_value(zcbor_state_t *state, const struct codec_field *field, const uint8_t *base) {
    const void *from = base + field->offset;

    switch (field->kind) {
    case CODEC_U32:
        return zcbor_uint32_encode(state, from);
    case CODEC_U64:
        return zcbor_uint64_encode(state, from);
    case CODEC_I32:
        return zcbor_int32_encode(state, from);
    case CODEC_BOOL:
        return zcbor_bool_encode(state, from);
    case CODEC_BYTES:
        return zcbor_bstr_encode(state, from);
    case CODEC_TEXT:
        return zcbor_tstr_encode(state, from);
    default:
        return encode_array(state, field, base);
    }
}

size_t codec_encode(enum codec_map map, const union codec_any *from, uint8_t *to, size_t room) {
    zcbor_state_t states[STATES];
    bool good;

    zcbor_new_state(states, STATES, to, room, 1, NULL, 0);
    good = zcbor_map_start_encode(states, 0);
    for (size_t i = codec_starts[map]; good && i < codec_starts[map + 1]; i++) {
        const struct codec_field *field = &codec_fields[i];

        if (field->kind != CODEC_COUNT) {
            good = zcbor_uint32_put(states, field->key) && encode_value(states, field, (const uint8_t *)from);
        }
    }
    return good && zcbor_map_end_encode(states, 0) ? (size_t)(states->payload - to) : 0;
}
