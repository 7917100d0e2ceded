/* Flash that loses power: it erases to ones, programs a word once, and stops in the middle of the operation
 * that it is told to stop at, which leaves any mixture of what was there and what was coming. */
#ifndef FAKE_FLASH_H
#define FAKE_FLASH_H

#include <setjmp.h>
#include <stdint.h>

#define FLASH_ORIGIN 0x10000000u
#define FLASH_PAGE 1024u
#ifndef FLASH_BYTES
#define FLASH_BYTES (2u * FLASH_PAGE)
#endif

extern jmp_buf power;        /* where a cut goes */
extern long operations_left; /* until the power fails; 0: never */
extern long operations;      /* words programmed and pages erased so far */
extern uint32_t chance;      /* state of the generator, not 0 */

void flash_map(void);

#endif
