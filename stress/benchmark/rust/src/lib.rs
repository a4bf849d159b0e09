// SPDX-License-Identifier: MIT OR Apache-2.0
//! The peers of exitbus-bench that are written in Rust, behind the C structures of its headers. One
//! crate for all: a program can hold the Rust runtime only once.

mod channels;
mod peer;
