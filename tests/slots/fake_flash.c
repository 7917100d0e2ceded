#include "fake_flash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "flash.h"

jmp_buf power;
long operations_left;
long operations;
uint32_t chance = 1;

const struct hal_region hal_journal = {FLASH_ORIGIN, FLASH_BYTES};
const uint32_t hal_flash_page = FLASH_PAGE;

static uint32_t *word_at(uint32_t address) {
    return (uint32_t *)(uintptr_t)address;
}

static uint32_t draw(void) {
    chance ^= chance << 13;
    chance ^= chance >> 17;
    chance ^= chance << 5;
    return chance;
}

void flash_map(void) {
    void *at = mmap((void *)(uintptr_t)FLASH_ORIGIN, FLASH_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    if (at != (void *)(uintptr_t)FLASH_ORIGIN) {
        perror("mmap");
        exit(2);
    }
}

/* Counts an operation; true when the power fails in the middle of it. */
static bool fails(void) {
    operations++;
    return operations_left > 0 && --operations_left == 0;
}

bool hal_flash_erase(uint32_t address) {
    uint32_t *words = word_at(address);
    const bool cut = fails();

    if (address < FLASH_ORIGIN || address % FLASH_PAGE != 0 || address >= FLASH_ORIGIN + FLASH_BYTES) {
        fprintf(stderr, "erases %#x\n", address);
        exit(3);
    }
    for (uint32_t i = 0; i < FLASH_PAGE / 4; i++) {
        words[i] = cut ? words[i] | (draw() & draw()) : 0xFFFFFFFFu;
    }
    if (cut) {
        longjmp(power, 1);
    }
    return true;
}

bool hal_flash_write(uint32_t address, const uint32_t *words, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint32_t *to = word_at(address + 4u * (uint32_t)i);

        if (address < FLASH_ORIGIN || address % 4 != 0 || address + 4 * count > FLASH_ORIGIN + FLASH_BYTES) {
            fprintf(stderr, "writes %#x\n", address);
            exit(3);
        }
        if (*to != 0xFFFFFFFFu) {
            fprintf(stderr, "writes %#zx twice\n", address + 4 * i);
            exit(3);
        }
        if (fails()) {
            *to = words[i] | draw();
            longjmp(power, 1);
        }
        *to = words[i];
    }
    return true;
}
