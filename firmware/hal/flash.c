/* The board's flash regions, and what every driver checks after its work. */
#include "flash.h"

#include <string.h>

#include "board.h"

const struct hal_region hal_journal = HAL_JOURNAL;
const struct hal_region hal_slots[] = HAL_SLOTS;
const uint32_t hal_slot_count = sizeof hal_slots / sizeof hal_slots[0];
const uint32_t hal_flash_page = HAL_FLASH_PAGE;
const uint32_t hal_envelope_bytes = HAL_ENVELOPE_BYTES;
const uint32_t hal_model_stack = HAL_MODEL_STACK;

extern uint8_t ld_pool_start[], ld_pool_end[];

uint8_t *hal_pool(void) {
    return ld_pool_start;
}

uint32_t hal_pool_bytes(void) {
    return (uint32_t)((uintptr_t)ld_pool_end - (uintptr_t)ld_pool_start);
}

__attribute__((naked)) void hal_call_on_stack(void (*function)(void *), void *argument, uint8_t *top) {
    (void)function;
    (void)argument;
    (void)top;
    __asm__ volatile("push {r4, lr}\n"
                     "mov r4, sp\n"
                     "mov sp, r2\n"
                     "mov r3, r0\n"
                     "mov r0, r1\n"
                     "blx r3\n"
                     "mov sp, r4\n"
                     "pop {r4, pc}\n");
}

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
