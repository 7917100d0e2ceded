#include "boot.h"

#include <string.h>

static void keep(struct journal *journal, struct boot_record *boot) {
    if (!journal_write(journal, JOURNAL_BOOT, boot, sizeof *boot)) {
        boot->count = 0;
    }
}

void boot_count(struct journal *journal, struct boot_record *boot) {
    const void *value;

    memset(boot, 0, sizeof *boot);
    if (journal_find(journal, JOURNAL_BOOT, &value) == sizeof *boot) {
        memcpy(boot, value, sizeof *boot);
    }
    boot->count++;
    keep(journal, boot);
}

uint64_t boot_identifier(struct journal *journal, struct boot_record *boot, uint64_t nonce) {
    if (boot->count != 0 && boot->era == 0) {
        boot->era = (uint32_t)nonce | 1u;
        keep(journal, boot);
    }
    return boot->count != 0 ? (uint64_t)boot->era << 32 | boot->count : nonce;
}
