/* What a watchdog driver implements; without one, hal_watchdog_feed does nothing. */
#ifndef INTAGLIO_WATCHDOG_H
#define INTAGLIO_WATCHDOG_H

void watchdog_start(void);

#endif
