/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * No call of the library is a cancellation point, although some wait in functions that are. Between
 * disable and restore a pthread_cancel() of this thread waits as well.
 */
#ifndef EXITBUS_CANCEL_H
#define EXITBUS_CANCEL_H

#include <pthread.h>

static inline int cancel_disable(void)
{
    int before;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    return before;
}

static inline void cancel_restore(int before)
{
    pthread_setcancelstate(before, NULL);
}

#endif
