/* Flash that the agent programs: the pages of its journal, and the model slots. Executed and read in place.
 * One driver per flash controller stands behind it; where a board has no slots, nothing of this is linked. */
#ifndef INTAGLIO_FLASH_H
#define INTAGLIO_FLASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A range of whole pages. */
struct hal_region {
    uint32_t origin;
    uint32_t length;
};

extern const struct hal_region hal_journal;
extern const struct hal_region hal_slots[];
extern const uint32_t hal_slot_count;
extern const uint32_t hal_flash_page;     /* bytes that are erased together, a power of two */
extern const uint32_t hal_envelope_bytes; /* at the end of each slot, for the manifest of what it holds */

/* What loaded models have of the RAM: the stack that their functions may use, and a pool for their arenas,
 * 8-byte aligned. */
extern const uint32_t hal_model_stack;
uint8_t *hal_pool(void);
uint32_t hal_pool_bytes(void);

/* Calls a function with another stack, which grows down from `top`, 8-byte aligned. Interrupts use it
 * meanwhile. */
void hal_call_on_stack(void (*function)(void *), void *argument, uint8_t *top);

/* Sets the page at `address` to all ones. False when the controller reports an error, or when it is not so.
 */
bool hal_flash_erase(uint32_t address);

/* Programs `count` words, each once since it was erased, in order. False when the controller reports an
 * error, or when they do not read back. */
bool hal_flash_write(uint32_t address, const uint32_t *words, size_t count);

/* What the drivers check after their work: that a page is erased, and that words are what they should be. */
bool flash_is_erased(uint32_t address);
bool flash_holds(uint32_t address, const uint32_t *words, size_t count);

/* What is at an address. */
static inline const void *hal_flash_at(uint32_t address) {
    return (const void *)(uintptr_t)address;
}

#endif
