#include "slots.h"

#include <string.h>

#include "crc32.h"
#include "flash.h"
#include "hal.h"
#include "sha256.h"

_Static_assert(AGENT_SLOTS <= SLOTS_MOST, "a board has at most eight slots");
_Static_assert(sizeof(struct commitment) <= JOURNAL_VALUE_BYTES, "one record holds it");

#define ERASED 0xFFFFFFFFu
enum { WORD = 4, ARENA_ALIGNMENT = 8 };

static uint32_t aligned(uint32_t bytes) {
    return (bytes + ARENA_ALIGNMENT - 1u) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
}

uint32_t slots_room(uint32_t slot) {
    return hal_slots[slot].length - hal_envelope_bytes;
}

uint32_t slots_lead(uint32_t manifest_bytes) {
    return SIGNATURE_BYTES + (manifest_bytes + WORD - 1u) / WORD * WORD;
}

const struct envelope *slots_envelope(uint32_t slot) {
    return hal_flash_at(hal_slots[slot].origin + slots_room(slot));
}

bool slots_is_whole(const struct envelope *envelope) {
    return envelope->mark == ENVELOPE_MARK && envelope->manifest_bytes <= MANIFEST_BYTES &&
           envelope->crc == crc32((const uint8_t *)&envelope->manifest_bytes,
                                  2 * WORD + slots_lead(envelope->manifest_bytes));
}

const struct intaglio_model *slots_image(uint32_t slot, uint32_t bytes) {
    const uint8_t *start = hal_flash_at(hal_slots[slot].origin);
    const struct image_header *header = (const void *)start;
    const uint8_t *model = (const uint8_t *)header->model;

    if (bytes < sizeof *header + sizeof *header->model || bytes > slots_room(slot) ||
        header->magic != IMAGE_MAGIC || header->version != IMAGE_VERSION ||
        header->abi != INTAGLIO_ABI_VERSION || header->start != start || header->end != start + bytes ||
        model < start || model > start + bytes - sizeof *header->model ||
        header->model->abi_version != INTAGLIO_ABI_VERSION) {
        return NULL;
    }
    return header->model;
}

void slots_commitment(const struct journal *journal, struct commitment *to) {
    const void *value;
    const size_t bytes = journal_find(journal, JOURNAL_MODELS, &value);

    memset(to, 0, sizeof *to);
    if (bytes != 0) {
        memcpy(to, value, bytes < sizeof *to ? bytes : sizeof *to);
    }
}

bool slots_commit(struct journal *journal, const struct commitment *commitment) {
    return journal_write(journal, JOURNAL_MODELS, commitment,
                         offsetof(struct commitment, security) +
                             commitment->names * sizeof commitment->security[0]);
}

uint32_t slots_find(const struct slots *slots, uint32_t index) {
    uint32_t slot = 0;

    while (slot < AGENT_SLOTS && (slots->loaded[slot].model == NULL || slots->loaded[slot].index != index)) {
        slot++;
    }
    return slot;
}

/* Where the arenas of models with state end: the ones without have theirs there. */
static uint32_t floor_of(const struct slots *slots, uint32_t leaving) {
    uint32_t end = 0;

    for (uint32_t i = 0; i < AGENT_SLOTS; i++) {
        const struct loaded *one = &slots->loaded[i];

        if (i != leaving && one->model != NULL && one->model->state_bytes != 0 &&
            one->offset + aligned(one->model->arena_bytes) > end) {
            end = one->offset + aligned(one->model->arena_bytes);
        }
    }
    return end;
}

uint32_t slots_idle_bytes(const struct slots *slots) {
    return hal_pool_bytes() - floor_of(slots, AGENT_SLOTS);
}

void *slots_arena(const struct slots *slots, uint32_t slot) {
    const struct loaded *one = &slots->loaded[slot];

    return hal_pool() + (one->model->state_bytes != 0 ? one->offset : floor_of(slots, AGENT_SLOTS));
}

/* Whether nothing that stays overlaps an arena at `offset` of a model with state. */
static bool is_free(const struct slots *slots, uint32_t leaving, uint32_t offset, uint32_t bytes) {
    for (uint32_t i = 0; i < AGENT_SLOTS; i++) {
        const struct loaded *one = &slots->loaded[i];

        if (i != leaving && one->model != NULL && one->model->state_bytes != 0 &&
            offset < one->offset + aligned(one->model->arena_bytes) && one->offset < offset + bytes) {
            return false;
        }
    }
    return true;
}

bool slots_place(const struct slots *slots, const struct intaglio_model *model, uint32_t leaving,
                 uint32_t *offset) {
    const uint32_t room = hal_pool_bytes();
    const uint32_t bytes = aligned(model->arena_bytes);
    uint32_t end = floor_of(slots, leaving), shared = 0;

    if (model->arena_bytes > room || bytes > room) {
        return false;
    }
    *offset = end;
    if (model->state_bytes == 0) {
        return bytes <= room - end;
    }
    /* The lowest place is the pool's beginning, or the end of another arena. */
    for (uint32_t i = 0; i <= AGENT_SLOTS; i++) {
        uint32_t candidate = 0;

        if (i < AGENT_SLOTS) {
            const struct loaded *one = &slots->loaded[i];

            if (i == leaving || one->model == NULL || one->model->state_bytes == 0) {
                continue;
            }
            candidate = one->offset + aligned(one->model->arena_bytes);
        }
        if (candidate < *offset && is_free(slots, leaving, candidate, bytes)) {
            *offset = candidate;
        }
    }
    for (uint32_t i = 0; i < AGENT_SLOTS; i++) {
        const struct intaglio_model *other = slots->loaded[i].model;

        if (i != leaving && other != NULL && other->state_bytes == 0 && other->arena_bytes > shared) {
            shared = other->arena_bytes;
        }
    }
    if (bytes > room - *offset) {
        return false;
    }
    end = *offset + bytes > end ? *offset + bytes : end;
    return shared <= room - end;
}

void slots_bring_up(struct slots *slots, uint32_t slot, const struct intaglio_model *model, uint32_t offset) {
    slots->loaded[slot] = (struct loaded){.model = model, .index = slots->next_index++, .offset = offset};
    model->reset(slots_arena(slots, slot));
}

void slots_start(struct slots *slots, const struct journal *journal, uint32_t first_index) {
    struct commitment commitment;

    slots->next_index = first_index;
    slots_commitment(journal, &commitment);
    for (uint32_t i = 0; i < AGENT_SLOTS; i++) {
        const uint32_t bytes = commitment.image[i].bytes;
        const struct envelope *envelope = slots_envelope(i);
        const struct intaglio_model *model = bytes == 0 ? NULL : slots_image(i, bytes);
        struct manifest manifest;
        uint32_t offset;

        if (model != NULL && commitment.image[i].crc == crc32(hal_flash_at(hal_slots[i].origin), bytes) &&
            slots_is_whole(envelope) &&
            manifest_read(envelope->manifest, envelope->manifest_bytes, hal_slots[i].origin, &manifest) &&
            manifest.stack <= hal_model_stack && slots_place(slots, model, AGENT_SLOTS, &offset)) {
            slots_bring_up(slots, i, model, offset);
        }
    }
}

/* Whether an image is the one that the manifest names. */
static bool is_signed_image(uint32_t slot, const struct manifest *manifest, uint32_t bytes) {
    uint8_t digest[SHA256_BYTES];
    struct sha256 hash;

    if (manifest->image_bytes != bytes) {
        return false;
    }
    sha256_begin(&hash);
    sha256_add(&hash, hal_flash_at(hal_slots[slot].origin), bytes);
    sha256_end(&hash, digest);
    return memcmp(digest, manifest->digest.value, sizeof digest) == 0;
}

struct put slots_resume(uint32_t slot) {
    const struct envelope *envelope = slots_envelope(slot);
    const uint32_t origin = hal_slots[slot].origin;
    struct put put = {.slot = slot};
    struct manifest manifest;

    if (!slots_is_whole(envelope)) {
        return put;
    }
    const uint32_t lead = slots_lead(envelope->manifest_bytes);
    uint32_t bytes = envelope->total - lead;

    put.manifest_bytes = envelope->manifest_bytes;
    put.total = envelope->total;
    put.received = envelope->total;
    if (bytes <= slots_room(slot) &&
        manifest_read(envelope->manifest, envelope->manifest_bytes, origin, &manifest) &&
        is_signed_image(slot, &manifest, bytes)) {
        return put;
    }
    /* The last word that was programmed may be torn: its page is written again. Where that page holds the
     * envelope too, everything is. */
    if (bytes > slots_room(slot) || slots_room(slot) % hal_flash_page != 0) {
        return (struct put){.slot = slot};
    }
    for (const uint32_t *words = hal_flash_at(origin); bytes != 0 && words[bytes / WORD - 1u] == ERASED;) {
        bytes -= WORD;
    }
    put.received = lead + (bytes == 0 ? 0 : (bytes - 1u) / hal_flash_page * hal_flash_page);
    return put;
}
