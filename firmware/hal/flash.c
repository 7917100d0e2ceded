/* The board's flash regions, and what every driver checks after its work. */
#include "flash.h"

#include <string.h>

#include "board.h"

const struct hal_region hal_journal = HAL_JOURNAL;
const struct hal_region hal_slots[] = HAL_SLOTS;
const uint32_t hal_slot_count = sizeof hal_slots / sizeof hal_slots[0];
const uint32_t hal_flash_page = HAL_FLASH_PAGE;

bool flash_is_erased(uint32_t address) {
    const uint32_t *words = hal_flash_at(address);

    for (uint32_t i = 0; i < hal_flash_page / sizeof *words; i++) {
        if (words[i] != 0xFFFFFFFFu) {
            return false;
        }
    }
    return true;
}

bool flash_holds(uint32_t address, const uint32_t *words, size_t count) {
    return memcmp(hal_flash_at(address), words, count * sizeof *words) == 0;
}
