/* Models that come and go at run time: what each slot holds, which of them run, and where their arenas lie.
 */
#ifndef INTAGLIO_SLOTS_H
#define INTAGLIO_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "image.h"
#include "intaglio_abi.h"

#include "journal.h"
#include "manifest.h"
#include "signature.h"

enum { SLOTS_MOST = 8, SECURITY_NAMES = 16, SECURITY_NAME_BYTES = 8 };

#define ENVELOPE_MARK 0x564E4549u /* "IENV" */

/* At the end of a slot, behind the image: the signed manifest. `mark` and `crc` are written last. */
struct envelope {
    uint32_t mark;
    uint32_t crc; /* of what follows, filled up to whole words */
    uint32_t manifest_bytes;
    uint32_t total; /* bytes of the stream that was put: signature, manifest, image */
    uint8_t signature[SIGNATURE_BYTES];
    uint8_t manifest[MANIFEST_BYTES];
};

/* What the journal keeps under JOURNAL_MODELS; of `security`, the entries in use. */
struct commitment {
    uint32_t names; /* entries of `security` in use */
    struct {
        uint32_t bytes; /* of the image; 0: nothing is loaded there */
        uint32_t crc;
    } image[SLOTS_MOST];
    struct {
        uint8_t name[SECURITY_NAME_BYTES]; /* first bytes of the name's SHA-256 */
        uint32_t counter;                  /* lowest that may be loaded under that name */
    } security[SECURITY_NAMES];
};

/* The stream that fills a slot. */
struct put {
    uint32_t slot;
    uint32_t manifest_bytes;
    uint32_t total; /* 0: none is under way */
    uint32_t received;
};

struct loaded {
    const struct intaglio_model *model; /* NULL: none */
    uint32_t index;                     /* on the wire */
    uint32_t offset;                    /* of the arena in the pool, when the model keeps state */
};

struct slots {
    struct put put;
    uint32_t next_index;
    struct loaded loaded[AGENT_SLOTS];
};

/* Brings up the models that the journal names; their indices begin at `first_index`. */
void slots_start(struct slots *slots, const struct journal *journal, uint32_t first_index);

/* The slot whose model has an index; AGENT_SLOTS when none has. */
uint32_t slots_find(const struct slots *slots, uint32_t index);

/* The arena of a slot's model. Models without state share theirs: what is in it lasts until another runs. */
void *slots_arena(const struct slots *slots, uint32_t slot);

/* Where the arena of a model would lie when the model of slot `leaving` has gone. False: it does not fit. */
bool slots_place(const struct slots *slots, const struct intaglio_model *model, uint32_t leaving,
                 uint32_t *offset);

/* The pool's idle part, which is at its end: no model keeps anything there between predictions. */
uint32_t slots_idle_bytes(const struct slots *slots);

/* Makes a slot's model run. */
void slots_bring_up(struct slots *slots, uint32_t slot, const struct intaglio_model *model, uint32_t offset);

/* What the journal says is loaded. */
void slots_commitment(const struct journal *journal, struct commitment *to);
bool slots_commit(struct journal *journal, const struct commitment *commitment);

/* The envelope of a slot, and whether it is whole. */
const struct envelope *slots_envelope(uint32_t slot);
bool slots_is_whole(const struct envelope *envelope);

/* The model in a slot's image of `bytes` bytes; NULL when its header is not that of an image for this slot.
 */
const struct intaglio_model *slots_image(uint32_t slot, uint32_t bytes);

/* Bytes that an image may have in a slot, and those before it in the stream. */
uint32_t slots_room(uint32_t slot);
uint32_t slots_lead(uint32_t manifest_bytes);

/* What a slot holds of a stream, as far as whole pages are sure to be written. */
struct put slots_resume(uint32_t slot);

#endif
