/* What the agent remembers over a reset: a few values, each under a key, in pages of flash that are written
 * like a log. A write is there whole or not at all, whenever the power fails. */
#ifndef INTAGLIO_JOURNAL_H
#define INTAGLIO_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A number once given is never given again. */
enum journal_key {
    JOURNAL_BOOT = 1,
    JOURNAL_MODELS = 2,
    JOURNAL_CONFIG = 3,
    JOURNAL_DEVICE_KEY = 4,
    JOURNAL_KEYS = 5
};

/* Longest value, bytes. */
enum { JOURNAL_VALUE_BYTES = 400 };

struct journal {
    uint32_t page; /* address of the page in use; 0: none, nothing has been written yet */
    uint32_t end;  /* address behind its last record */
    bool torn;     /* what follows was written in part: the page takes no more */
};

/* Finds the page in use and the end of its records. */
void journal_open(struct journal *journal);

/* The value last written under a key, in place; its length in bytes, 0 when there is none. */
size_t journal_find(const struct journal *journal, enum journal_key key, const void **value);

/* Writes a value of 1 to JOURNAL_VALUE_BYTES bytes. False when the flash fails; then the former value stays.
 */
bool journal_write(struct journal *journal, enum journal_key key, const void *value, size_t bytes);

#endif
