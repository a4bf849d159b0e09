# SPDX-License-Identifier: MIT OR Apache-2.0
# Sourced by tests that have two counts. Sets `long` to 1 if the large one is asked for by
# EXITBUS_LONG=1, as for the figures in the documents; otherwise to 0.
long=${EXITBUS_LONG:-0}
