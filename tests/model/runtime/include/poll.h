/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Stands before the system's: one descriptor of the model, waited for without end. */
#ifndef MODEL_POLL_H
#define MODEL_POLL_H

#include_next <poll.h>

void model_await_readable(int fd);

#define poll(fds, count, timeout) (model_await_readable((fds)->fd), 1)

#endif
