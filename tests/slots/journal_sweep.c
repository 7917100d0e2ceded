/* Cuts the power at every operation of a journal's life: afterwards each value is the one before or the one
 * after the write that was under way, and the journal goes on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_flash.h"
#include "flash.h"
#include "journal.h"

enum { KEYS = 4, WRITES = 120 };

struct value {
    uint32_t bytes;
    uint8_t data[JOURNAL_VALUE_BYTES];
};

static struct value known[KEYS + 1], coming;
static volatile int writing; /* the key under way; 0: none */

static uint32_t mix(uint32_t x) {
    x ^= x >> 16;
    x *= 0x7FEB352Du;
    x ^= x >> 15;
    x *= 0x846CA68Bu;
    return x ^ x >> 16;
}

static void make(struct value *value, uint32_t seed) {
    static const uint32_t sizes[] = {1, 3, 4, 12, 17, 64, 200, 91};

    value->bytes = sizes[mix(seed) % 8];
    for (uint32_t i = 0; i < value->bytes; i++) {
        value->data[i] = (uint8_t)mix(seed * 1000u + i);
    }
}

static int holds(const struct journal *journal, int key, const struct value *value) {
    const void *at;
    const size_t bytes = journal_find(journal, (enum journal_key)key, &at);

    return bytes == value->bytes && (bytes == 0 || memcmp(at, value->data, bytes) == 0);
}

static void check(const struct journal *journal, const char *when, long cut) {
    for (int key = 1; key <= KEYS; key++) {
        if (holds(journal, key, &known[key])) {
            continue;
        }
        if (key == writing && holds(journal, key, &coming)) {
            known[key] = coming;
            continue;
        }
        printf("cut at %ld, %s: key %d holds neither the old nor the new value\n", cut, when, key);
        exit(1);
    }
    writing = 0;
}

static void live(struct journal *journal, uint32_t from, uint32_t writes, long cut) {
    for (uint32_t i = from; i < from + writes; i++) {
        const int key = 1 + (int)(mix(i + 77u) % KEYS);

        make(&coming, i);
        writing = key;
        if (!journal_write(journal, (enum journal_key)key, coming.data, coming.bytes)) {
            printf("write %u of %u bytes fails\n", i, coming.bytes);
            exit(1);
        }
        check(journal, "after a write", cut);
    }
}

static void begin(uint8_t fill) {
    memset((void *)(uintptr_t)FLASH_ORIGIN, fill, FLASH_BYTES);
    memset(known, 0, sizeof known);
    writing = 0;
}

/* One life with cuts at operation `cut`, and again `again` operations later (0: once). */
static void one(long cut, long again, uint8_t fill) {
    struct journal journal;
    volatile int cuts = 0;

    begin(fill);
    operations_left = cut;
    if (setjmp(power) != 0) {
        cuts++;
        operations_left = cuts == 1 ? again : 0;
        journal_open(&journal);
        check(&journal, "after the cut", cut);
        live(&journal, 5000u * (uint32_t)cuts, 40, cut);
        journal_open(&journal);
        check(&journal, "at the end", cut);
        return;
    }
    journal_open(&journal);
    live(&journal, 0, WRITES, cut);
    operations_left = 0;
}

int main(int count, char **arguments) {
    const uint8_t fill = (uint8_t)strtol(arguments[1], NULL, 0);
    long total, cuts = 0;

    (void)count;
    flash_map();
    operations = 0;
    one(0, 0, fill);
    total = operations;
    for (long cut = 1; cut <= total; cut++) {
        for (uint32_t seed = 1; seed <= 3; seed++) {
            chance = mix((uint32_t)cut * 31u + seed) | 1u;
            one(cut, 0, fill);
            chance = mix((uint32_t)cut * 37u + seed) | 1u;
            one(cut, 1 + (long)(mix((uint32_t)cut + seed) % 60u), fill);
            cuts += 2;
        }
    }
    printf("operations %ld lives %ld\n", total, cuts);
    return 0;
}
