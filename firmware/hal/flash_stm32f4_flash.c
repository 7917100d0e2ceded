/* Flash interface of the STM32F405 and F407 (RM0090, chapter 3), at 2.7 to 3.6 V: 32 bits at a time. The core
 * waits for what it fetches meanwhile, an erase takes up to two seconds. */
#include "board.h"
#include "flash.h"
#include "mmio.h"

#define ACR REG(HAL_FLASH_BASE + 0x00u)
#define KEYR REG(HAL_FLASH_BASE + 0x04u)
#define SR REG(HAL_FLASH_BASE + 0x0Cu)
#define CR REG(HAL_FLASH_BASE + 0x10u)

#define ACR_DCEN 0x400u
#define ACR_DCRST 0x1000u
#define SR_BSY 0x10000u
#define SR_ERRORS 0xF2u
#define CR_PG 0x1u
#define CR_SER 0x2u
#define CR_SECTOR 3
#define CR_BY_WORDS 0x200u
#define CR_STRT 0x10000u
#define CR_LOCK 0x80000000u

#define FLASH_ORIGIN 0x08000000u
enum { SMALL_SECTOR = 0x4000, LARGE_SECTOR = 0x20000, FIRST_LARGE = 5 };

/* Four sectors of 16 KB, one of 64 KB, the others of 128 KB (table 5). */
static uint32_t sector_of(uint32_t address) {
    const uint32_t offset = address - FLASH_ORIGIN;

    if (offset < LARGE_SECTOR) {
        return offset < LARGE_SECTOR / 2 ? offset / SMALL_SECTOR : FIRST_LARGE - 1u;
    }
    return FIRST_LARGE - 1u + offset / LARGE_SECTOR;
}

static void unlock(uint32_t control) {
    if (CR & CR_LOCK) {
        KEYR = 0x45670123u;
        KEYR = 0xCDEF89ABu;
    }
    while (SR & SR_BSY) {
    }
    SR = SR_ERRORS;
    CR = control;
}

static bool finish(void) {
    while (SR & SR_BSY) {
    }
    const bool failed = (SR & SR_ERRORS) != 0;

    CR = CR_LOCK;
    return !failed;
}

bool hal_flash_erase(uint32_t address) {
    const uint32_t control = CR_SER | sector_of(address) << CR_SECTOR | CR_BY_WORDS;

    unlock(control);
    CR = control | CR_STRT;
    const bool done = finish();

    if (ACR & ACR_DCEN) { /* the data cache may hold what was there (3.5.4) */
        ACR &= ~ACR_DCEN;
        ACR |= ACR_DCRST;
        ACR &= ~ACR_DCRST;
        ACR |= ACR_DCEN;
    }
    return done && flash_is_erased(address);
}

bool hal_flash_write(uint32_t address, const uint32_t *words, size_t count) {
    unlock(CR_PG | CR_BY_WORDS);
    for (size_t i = 0; i < count; i++) {
        REG(address + 4u * i) = words[i];
        while (SR & SR_BSY) {
        }
    }
    return finish() && flash_holds(address, words, count);
}
