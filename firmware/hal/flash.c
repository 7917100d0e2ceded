/* The board's flash regions, and what every driver checks after its work. */
#include "flash.h"

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

#define IN_REGISTER __attribute__((unused))

__attribute__((naked)) void hal_call_on_stack(IN_REGISTER void (*function)(void *),
                                              IN_REGISTER void *argument, IN_REGISTER uint8_t *top) {
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
    const uint32_t *there = hal_flash_at(address);

    for (uint32_t i = 0; i < hal_flash_page / sizeof *there; i++) {
        if (there[i] != 0xFFFFFFFFu) {
            return false;
        }
    }
    return true;
}

bool flash_holds(uint32_t address, const uint32_t *words, size_t count) {
    const uint32_t *there = hal_flash_at(address);

    for (size_t i = 0; i < count; i++) {
        if (there[i] != words[i]) {
            return false;
        }
    }
    return true;
}
