/* Boot identifiers without a random generator: a counter that the journal keeps. */
#ifndef INTAGLIO_BOOT_H
#define INTAGLIO_BOOT_H

#include <stdint.h>

#include "journal.h"

/* What the journal keeps under JOURNAL_BOOT. */
struct boot_record {
    uint32_t count; /* boots since the flash was new; 0: the flash failed */
    uint32_t era;   /* of the first hello's nonce since then, so that erased flash does not bring back old
                       identifiers; 0: there has been none */
};

/* Counts this boot. It is in the journal before anybody learns of it. */
void boot_count(struct journal *journal, struct boot_record *boot);

/* The identifier of this boot; `nonce`, of its first hello, where the flash has failed. */
uint64_t boot_identifier(struct journal *journal, struct boot_record *boot, uint64_t nonce);

#endif
