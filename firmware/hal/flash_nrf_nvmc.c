/* NVMC of the nRF51 (nRF51 Series Reference Manual v3.0, chapter 7) and nRF52 (nRF52840 Product Specification
 * v1.7, 4.3). The core waits while it works. */
#include "board.h"
#include "flash.h"
#include "mmio.h"

#define READY REG(HAL_FLASH_BASE + 0x400u)
#define CONFIG REG(HAL_FLASH_BASE + 0x504u)
#define ERASEPAGE REG(HAL_FLASH_BASE + 0x508u)

enum { READ_ONLY = 0, WRITE_ENABLED = 1, ERASE_ENABLED = 2 };

static void wait(void) {
    while (!(READY & 1u)) {
    }
}

static void configure(uint32_t mode) {
    CONFIG = mode;
    wait();
}

bool hal_flash_erase(uint32_t address) {
    configure(ERASE_ENABLED);
    ERASEPAGE = address;
    wait();
    configure(READ_ONLY);
    return flash_is_erased(address);
}

bool hal_flash_write(uint32_t address, const uint32_t *words, size_t count) {
    configure(WRITE_ENABLED);
    for (size_t i = 0; i < count; i++) {
        REG(address + 4u * i) = words[i];
        wait();
    }
    configure(READ_ONLY);
    return flash_holds(address, words, count);
}
