/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Stands before the system's: threads are the explorer's. */
#ifndef MODEL_PTHREAD_H
#define MODEL_PTHREAD_H

#include_next <pthread.h>

#include "../model.h"

#define pthread_create(thread, attributes, body, argument)                                         \
    model_thread_start(thread, body, argument)
#define pthread_join(thread, result) model_thread_join(thread)
#define pthread_once(once, function) model_once(once, function)
#define pthread_key_create(key, at_end) ((void)(key), model_key_create(at_end))
#define pthread_setspecific(key, value) ((void)(key), model_setspecific(value))
#define pthread_setcancelstate(state, before) ((void)(state), (void)(before), 0)

#endif
