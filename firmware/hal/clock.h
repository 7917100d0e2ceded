/* What a time driver implements beside the HAL. */
#ifndef INTAGLIO_CLOCK_H
#define INTAGLIO_CLOCK_H

void clock_start(void);

#endif
