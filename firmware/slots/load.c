/* The commands that fill slots, load and unload. */
#include <string.h>

#include "commands.h"

#include "crc32.h"
#include "flash.h"
#include "sha256.h"

enum { WORD = 4, PIECE_WORDS = 16, EMPTY = 0, FILLING = 1, WHOLE = 2, LOADED = 3 };

/* The stream that fills a slot: the one under way, else what the flash holds of an earlier one. */
static struct put put_of(const struct agent *agent, uint32_t slot) {
    const struct put *put = &agent->slots.put;

    return put->slot == slot && put->total != 0 ? *put : slots_resume(slot);
}

enum wire_reason command_slot(struct agent *agent, const union codec_any *request, struct answer *answer) {
    const uint32_t slot = request->slot_request.slot;
    struct slot_response *to = &answer->as.slot_response;
    struct manifest manifest;
    struct sha256 hash;

    if (slot >= AGENT_SLOTS) {
        return WIRE_NOT_FOUND;
    }
    memset(to, 0, sizeof *to);
    to->slots = AGENT_SLOTS;
    to->address = hal_slots[slot].origin;
    to->size = slots_room(slot);
    const struct envelope *envelope = slots_envelope(slot);
    const struct loaded *loaded = &agent->slots.loaded[slot];
    if (slots_is_whole(envelope) &&
        manifest_read(envelope->manifest, envelope->manifest_bytes, to->address, &manifest)) {
        to->name = manifest.name;
        to->version = manifest.version;
        sha256_begin(&hash);
        sha256_add(&hash, envelope->manifest, envelope->manifest_bytes);
        sha256_end(&hash, answer->id);
        to->digest = (struct zcbor_string){.value = answer->id, .len = SHA256_BYTES};
    }
    if (loaded->model != NULL) {
        to->kind = LOADED;
        to->model = loaded->index;
        return WIRE_OK;
    }
    const struct put put = put_of(agent, slot);
    to->kind = put.total == 0 ? EMPTY : put.received < put.total ? FILLING : WHOLE;
    return WIRE_OK;
}

/* The address of the byte at an offset of the stream. */
static uint32_t address_of(const struct put *put, uint32_t offset) {
    const uint32_t lead = slots_lead(put->manifest_bytes);

    return offset < lead ? hal_slots[put->slot].origin + slots_room(put->slot) +
                               (uint32_t)offsetof(struct envelope, signature) + offset
                         : hal_slots[put->slot].origin + offset - lead;
}

enum wire_reason command_put_status(struct agent *agent, const union codec_any *request,
                                    struct answer *answer) {
    const uint32_t slot = request->slot_request.slot;
    struct put_status *to = &answer->as.put_status;
    struct sha256 hash;

    if (slot >= AGENT_SLOTS) {
        return WIRE_NOT_FOUND;
    }
    if (agent->slots.loaded[slot].model != NULL) {
        return WIRE_TAKEN;
    }
    struct put *put = &agent->slots.put;
    *put = put_of(agent, slot);
    const uint32_t lead = slots_lead(put->manifest_bytes);
    const uint32_t first = put->received < lead ? put->received : lead;

    sha256_begin(&hash);
    sha256_add(&hash, hal_flash_at(address_of(put, 0)), first);
    sha256_add(&hash, hal_flash_at(hal_slots[slot].origin), put->received - first);
    sha256_end(&hash, answer->id);
    to->off = put->received;
    to->total = put->total;
    to->digest = (struct zcbor_string){.value = answer->id, .len = SHA256_BYTES};
    return WIRE_OK;
}

/* Erases what is not erased of a slot, its envelope first: what it held is no package from then on. */
static bool clear(const struct hal_region *slot) {
    for (uint32_t end = slot->length; end != 0; end -= hal_flash_page) {
        const uint32_t page = slot->origin + end - hal_flash_page;

        if (!flash_is_erased(page) && !hal_flash_erase(page)) {
            return false;
        }
        hal_watchdog_feed();
    }
    return true;
}

/* A slot that is to be filled holds nothing that a later boot may take for loaded: the journal may name a
 * model that did not come up. */
static bool forget(struct journal *journal, uint32_t slot) {
    struct commitment commitment;

    slots_commitment(journal, &commitment);
    if (commitment.image[slot].bytes == 0) {
        return true;
    }
    commitment.image[slot].bytes = 0;
    return slots_commit(journal, &commitment);
}

static enum wire_reason begin_put(struct journal *journal, struct put *put,
                                  const struct put_request *request) {
    const uint32_t lead = slots_lead(request->size <= MANIFEST_BYTES ? request->size : 0);
    const uint32_t sizes[2] = {request->size, request->total};

    put->total = 0;
    if (request->size == 0 || request->total <= lead || request->total % WORD != 0) {
        return WIRE_MALFORMED;
    }
    if (request->size > MANIFEST_BYTES || request->total - lead > slots_room(request->slot)) {
        return WIRE_TOO_LARGE;
    }
    if (!forget(journal, request->slot) || !clear(&hal_slots[request->slot]) ||
        !hal_flash_write(hal_slots[request->slot].origin + slots_room(request->slot) +
                             (uint32_t)offsetof(struct envelope, manifest_bytes),
                         sizes, 2)) {
        return WIRE_FLASH;
    }
    *put = (struct put){.slot = request->slot, .manifest_bytes = request->size, .total = request->total};
    return WIRE_OK;
}

/* Programs words of the stream; a page that a stream taken up again begins with is erased before. */
static bool program(const struct put *put, uint32_t offset, const uint8_t *from, uint32_t bytes) {
    const uint32_t lead = slots_lead(put->manifest_bytes);
    uint32_t words[PIECE_WORDS];

    while (bytes != 0) {
        const uint32_t at = address_of(put, offset);
        uint32_t piece = bytes < sizeof words ? bytes : (uint32_t)sizeof words;

        if (offset < lead && piece > lead - offset) {
            piece = lead - offset;
        }
        if (offset >= lead && at % hal_flash_page == 0 &&
            at + hal_flash_page <= hal_slots[put->slot].origin + slots_room(put->slot) &&
            !flash_is_erased(at) && !hal_flash_erase(at)) {
            return false;
        }
        if (piece > hal_flash_page - at % hal_flash_page) {
            piece = hal_flash_page - at % hal_flash_page;
        }
        memcpy(words, from, piece);
        if (!hal_flash_write(at, words, piece / WORD)) {
            return false;
        }
        offset += piece;
        from += piece;
        bytes -= piece;
    }
    return true;
}

/* Completes the envelope once signature and manifest are there. */
static bool seal(const struct put *put) {
    const struct envelope *envelope = slots_envelope(put->slot);
    const uint32_t head[2] = {ENVELOPE_MARK, crc32((const uint8_t *)&envelope->manifest_bytes,
                                                   2 * WORD + slots_lead(put->manifest_bytes))};

    return hal_flash_write(hal_slots[put->slot].origin + slots_room(put->slot), head, 2);
}

enum wire_reason command_put(struct agent *agent, const union codec_any *request, struct answer *answer) {
    const struct put_request *chunk = &request->put_request;
    struct put *put = &agent->slots.put;
    const uint32_t bytes = (uint32_t)chunk->data.len;

    if (chunk->slot >= AGENT_SLOTS) {
        return WIRE_NOT_FOUND;
    }
    if (agent->slots.loaded[chunk->slot].model != NULL) {
        return WIRE_TAKEN;
    }
    if (bytes % WORD != 0) {
        return WIRE_MALFORMED;
    }
    if (chunk->off == 0) {
        const enum wire_reason reason = begin_put(&agent->journal, put, chunk);

        if (reason != WIRE_OK) {
            return reason;
        }
    }
    if (put->total == 0 || put->slot != chunk->slot || put->total != chunk->total ||
        put->manifest_bytes != chunk->size || put->received != chunk->off ||
        bytes > put->total - put->received) {
        return WIRE_OFFSET;
    }
    const uint32_t lead = slots_lead(put->manifest_bytes);
    const bool before = put->received < lead;

    if (!program(put, put->received, chunk->data.value, bytes) ||
        (before && put->received + bytes >= lead && !seal(put))) {
        put->total = 0;
        return WIRE_FLASH;
    }
    put->received += bytes;
    answer->as.put_response.off = put->received;
    return WIRE_OK;
}

static bool is_text(const struct zcbor_string *string, const char *text) {
    return strlen(text) == string->len && memcmp(string->value, text, string->len) == 0;
}

struct signed_manifest {
    const struct envelope *envelope;
    const uint8_t *key_id;
    bool trusted;
};

static void check_signature(void *argument) {
    struct signed_manifest *it = argument;

    it->trusted = signature_is_trusted(it->envelope->signature, it->envelope->manifest,
                                       it->envelope->manifest_bytes, it->key_id);
}

/* Everything about a package that does not depend on what else is loaded. */
static enum wire_reason check(const struct slots *slots, uint32_t slot, struct manifest *manifest,
                              struct commitment *commitment, const struct intaglio_model **model) {
    const struct envelope *envelope = slots_envelope(slot);
    const uint8_t *image = hal_flash_at(hal_slots[slot].origin);
    uint8_t digest[SHA256_BYTES];
    struct sha256 hash;

    if (!slots_is_whole(envelope) ||
        !manifest_read(envelope->manifest, envelope->manifest_bytes, hal_slots[slot].origin, manifest)) {
        return WIRE_NO_PACKAGE;
    }
    const uint32_t bytes = envelope->total - slots_lead(envelope->manifest_bytes);

    struct signed_manifest it = {.envelope = envelope, .key_id = manifest->key.value};

    if (slots_idle_bytes(slots) < SIGNATURE_STACK_BYTES) {
        return WIRE_ARENA;
    }
    hal_call_on_stack(check_signature, &it, hal_pool() + hal_pool_bytes() / 8u * 8u);
    if (!it.trusted) {
        return WIRE_UNTRUSTED;
    }
    if (manifest->format != PACKAGE_VERSION || manifest->abi != INTAGLIO_ABI_VERSION ||
        !is_text(&manifest->board, hal_board.name) || !is_text(&manifest->core, hal_board.core)) {
        return WIRE_OTHER_BOARD;
    }
    if (manifest->image_bytes == 0) {
        return WIRE_OTHER_SLOT;
    }
    sha256_begin(&hash);
    sha256_add(&hash, image, bytes);
    sha256_end(&hash, digest);
    if (manifest->image_bytes != bytes || memcmp(digest, manifest->digest.value, sizeof digest) != 0) {
        return WIRE_DAMAGED;
    }
    *model = slots_image(slot, bytes);
    if (*model == NULL || !is_text(&manifest->name, (*model)->name) ||
        manifest->arena != (*model)->arena_bytes || manifest->state != (*model)->state_bytes ||
        memcmp(manifest->graph.value, (*model)->digest, sizeof(*model)->digest) != 0) {
        return WIRE_DAMAGED;
    }
    commitment->image[slot].bytes = bytes;
    commitment->image[slot].crc = crc32(image, bytes);
    return manifest->stack <= hal_model_stack ? WIRE_OK : WIRE_STACK;
}

/* Holds a package's security counter against those of its name that were loaded before, and keeps it. */
static enum wire_reason count_up(const struct manifest *manifest, struct commitment *commitment) {
    uint8_t digest[SHA256_BYTES];
    struct sha256 hash;
    uint32_t i = 0;

    sha256_begin(&hash);
    sha256_add(&hash, manifest->name.value, manifest->name.len);
    sha256_end(&hash, digest);
    while (i < commitment->names && memcmp(commitment->security[i].name, digest, SECURITY_NAME_BYTES) != 0) {
        i++;
    }
    if (i < commitment->names && manifest->counter < commitment->security[i].counter) {
        return WIRE_ROLLBACK;
    }
    if (i == commitment->names && manifest->counter != 0) { /* none is lower than 0 */
        if (i == SECURITY_NAMES) {
            return WIRE_FLASH;
        }
        memcpy(commitment->security[i].name, digest, SECURITY_NAME_BYTES);
        commitment->names++;
    }
    if (i < commitment->names) {
        commitment->security[i].counter = manifest->counter;
    }
    return WIRE_OK;
}

enum wire_reason command_load(struct agent *agent, const union codec_any *request, struct answer *answer) {
    struct slots *slots = &agent->slots;
    const uint32_t slot = request->load_request.slot;
    const struct intaglio_model *model = NULL;
    struct commitment commitment;
    struct manifest manifest;
    uint32_t leaving = 0, offset;

    if (slot >= AGENT_SLOTS) {
        return WIRE_NOT_FOUND;
    }
    if (slots->loaded[slot].model != NULL) {
        answer->as.load_response.model = slots->loaded[slot].index;
        return WIRE_OK;
    }
    if (agent->transfer.received != 0) {
        return WIRE_BUSY;
    }
    agent->transfer.finished =
        false; /* the check, or another model, takes the arena that the outputs are in */
    slots_commitment(&agent->journal, &commitment);
    enum wire_reason reason = check(slots, slot, &manifest, &commitment, &model);
    if (reason != WIRE_OK) {
        return reason;
    }
    for (size_t i = 0; i < agent->count; i++) {
        if (strcmp(agent->models[i]->name, model->name) == 0) {
            return WIRE_TAKEN;
        }
    }
    while (leaving < AGENT_SLOTS && (slots->loaded[leaving].model == NULL ||
                                     strcmp(slots->loaded[leaving].model->name, model->name) != 0)) {
        leaving++;
    }
    if (!slots_place(slots, model, leaving, &offset)) {
        return WIRE_ARENA;
    }
    reason = count_up(&manifest, &commitment);
    if (reason != WIRE_OK) {
        return reason;
    }
    for (uint32_t i = 0; i < AGENT_SLOTS; i++) {
        if (i != slot && (i == leaving || slots->loaded[i].model == NULL)) {
            commitment.image[i].bytes = 0; /* leaves, or did not come up */
        }
    }
    if (!slots_commit(&agent->journal, &commitment)) {
        return WIRE_FLASH;
    }
    if (leaving < AGENT_SLOTS) {
        slots->loaded[leaving].model = NULL;
    }
    slots_bring_up(slots, slot, model, offset);
    answer->as.load_response.model = slots->loaded[slot].index;
    return WIRE_OK;
}

enum wire_reason command_unload(struct agent *agent, const union codec_any *request, struct answer *answer) {
    struct slots *slots = &agent->slots;
    const uint32_t slot = request->unload_request.slot;
    struct commitment commitment;

    (void)answer;
    if (slot >= AGENT_SLOTS || slots->loaded[slot].model == NULL) {
        return WIRE_NOT_FOUND;
    }
    if (agent->transfer.received != 0) {
        return WIRE_BUSY;
    }
    slots_commitment(&agent->journal, &commitment);
    commitment.image[slot].bytes = 0;
    if (!slots_commit(&agent->journal, &commitment)) {
        return WIRE_FLASH;
    }
    slots->loaded[slot].model = NULL;
    agent->transfer.finished = false;
    return WIRE_OK;
}
