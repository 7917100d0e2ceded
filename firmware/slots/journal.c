#include "journal.h"

#include <string.h>

#include "crc32.h"
#include "flash.h"

/* A page: magic, generation, and the CRC of both, which is written last, when everything that was worth
 * keeping of the page before it has been copied. Then records: a head of mark, key and length, the value
 * filled up to whole words, and the CRC of all that. Of the pages whose head is whole, that of the highest
 * generation is the one in use. */
enum { WORD = 4, HEAD_WORDS = 3, HEAD_BYTES = HEAD_WORDS * WORD };
#define MAGIC 0x4C4E4A49u /* "IJNL" */
#define MARK 0xA5000000u
#define ERASED 0xFFFFFFFFu

static uint32_t word_at(uint32_t address) {
    uint32_t word;

    memcpy(&word, hal_flash_at(address), sizeof word);
    return word;
}

static uint32_t key_of(uint32_t head) {
    return head >> 16 & 0xFFu;
}

static uint32_t bytes_of(uint32_t head) {
    return head & 0xFFFFu;
}

/* Bytes of a record with a value of `bytes` bytes. */
static uint32_t record_bytes(uint32_t bytes) {
    return WORD + (bytes + WORD - 1u) / WORD * WORD + WORD;
}

static bool page_is_whole(uint32_t page) {
    return word_at(page) == MAGIC && word_at(page + 2 * WORD) == crc32(hal_flash_at(page), 2 * WORD);
}

/* The length of the whole record at an address; 0 when there is none. */
static uint32_t record_at(uint32_t at, uint32_t limit) {
    if (at + 2 * WORD > limit) {
        return 0;
    }
    const uint32_t head = word_at(at);
    const uint32_t length = record_bytes(bytes_of(head));

    if ((head & 0xFF000000u) != MARK || bytes_of(head) == 0 || length > limit - at) {
        return 0;
    }
    return word_at(at + length - WORD) == crc32(hal_flash_at(at), length - WORD) ? length : 0;
}

void journal_open(struct journal *journal) {
    uint32_t newest = 0;

    memset(journal, 0, sizeof *journal);
    for (uint32_t offset = 0; offset < hal_journal.length; offset += hal_flash_page) {
        const uint32_t page = hal_journal.origin + offset;
        const uint32_t generation = word_at(page + WORD);

        /* The difference tells which came later though the counter wraps around. */
        if (page_is_whole(page) && (journal->page == 0 || (int32_t)(generation - newest) > 0)) {
            journal->page = page;
            newest = generation;
        }
    }
    if (journal->page == 0) {
        return;
    }
    const uint32_t limit = journal->page + hal_flash_page;
    uint32_t length;

    journal->end = journal->page + HEAD_BYTES;
    while ((length = record_at(journal->end, limit)) != 0) {
        journal->end += length;
    }
    for (uint32_t at = journal->end; at < limit; at += WORD) {
        journal->torn = journal->torn || word_at(at) != ERASED;
    }
}

/* The address of the last record of a key; 0 when there is none. */
static uint32_t last_of(const struct journal *journal, enum journal_key key) {
    uint32_t found = 0;

    if (journal->page == 0) {
        return 0;
    }
    for (uint32_t at = journal->page + HEAD_BYTES; at < journal->end;
         at += record_bytes(bytes_of(word_at(at)))) {
        if (key_of(word_at(at)) == (uint32_t)key) {
            found = at;
        }
    }
    return found;
}

size_t journal_find(const struct journal *journal, enum journal_key key, const void **value) {
    const uint32_t at = last_of(journal, key);

    *value = at == 0 ? NULL : hal_flash_at(at + WORD);
    return at == 0 ? 0 : bytes_of(word_at(at));
}

/* Writes a record whose words stand in `record`, room for the CRC included; returns its length, 0 when the
 * flash fails. */
static uint32_t append(uint32_t at, uint32_t *record) {
    const uint32_t length = record_bytes(bytes_of(record[0]));
    const size_t last = length / WORD - 1u;

    record[last] = crc32((const uint8_t *)record, length - WORD);
    return hal_flash_write(at, record, last + 1u) ? length : 0;
}

/* Starts the next page with the last value of every other key; its head, which makes it count, comes after
 * `record`. */
static bool turn_page(struct journal *journal, uint32_t *record) {
    const uint32_t former = journal->page;
    uint32_t page = hal_journal.origin;
    uint32_t head[HEAD_WORDS] = {MAGIC, 1u, 0};

    if (former != 0) {
        const uint32_t next = former - hal_journal.origin + hal_flash_page;

        page += next < hal_journal.length ? next : 0;
        head[1] = word_at(former + WORD) + 1u;
    }
    uint32_t at = page + HEAD_BYTES;

    if (!hal_flash_erase(page)) {
        return false;
    }
    for (uint32_t key = JOURNAL_BOOT; key < JOURNAL_KEYS; key++) {
        const uint32_t from = key == key_of(record[0]) ? 0 : last_of(journal, (enum journal_key)key);

        if (from != 0) {
            const uint32_t length = record_bytes(bytes_of(word_at(from)));

            if (at + length > page + hal_flash_page ||
                !hal_flash_write(at, hal_flash_at(from), length / WORD)) {
                return false;
            }
            at += length;
        }
    }
    if (at + record_bytes(bytes_of(record[0])) > page + hal_flash_page) {
        return false;
    }
    const uint32_t length = append(at, record);

    head[2] = crc32((const uint8_t *)head, 2 * WORD);
    if (length == 0 || !hal_flash_write(page, head, HEAD_WORDS)) {
        return false;
    }
    *journal = (struct journal){.page = page, .end = at + length};
    return true;
}

bool journal_write(struct journal *journal, enum journal_key key, const void *value, size_t bytes) {
    uint32_t record[(WORD + JOURNAL_VALUE_BYTES + WORD) / WORD] = {0};

    if (bytes == 0 || bytes > JOURNAL_VALUE_BYTES) {
        return false;
    }
    record[0] = MARK | (uint32_t)key << 16 | (uint32_t)bytes;
    memcpy(&record[1], value, bytes);
    if (journal->page == 0 || journal->torn ||
        journal->end + record_bytes((uint32_t)bytes) > journal->page + hal_flash_page) {
        return turn_page(journal, record);
    }
    const uint32_t length = append(journal->end, record);

    /* What a failed write has left cannot be written over. */
    journal->torn = length == 0;
    journal->end += length;
    return length != 0;
}
