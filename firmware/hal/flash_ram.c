/* Memory that a reset does not clear, written as if it were flash. */
#include "board.h"
#include "flash.h"
#include "mmio.h"

bool hal_flash_erase(uint32_t address) {
    for (uint32_t at = address; at < address + hal_flash_page; at += 4u) {
        REG(at) = 0xFFFFFFFFu;
    }
    return flash_is_erased(address);
}

bool hal_flash_write(uint32_t address, const uint32_t *words, size_t count) {
    for (size_t i = 0; i < count; i++) {
        REG(address + 4u * i) = words[i];
    }
    return flash_holds(address, words, count);
}
