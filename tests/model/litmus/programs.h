/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Litmus programs, as data: 2 to 4 threads of a few atomic operations on x, y, z and w, which are 0
 * at first. explored.c runs them under the explorer, axioms.c enumerates their executions.
 *
 *   W(x, 1, REL)              store        WR(x, A, 1, RLX)  store what is in register a, plus 1
 *   R(A, x, ACQ)              load to a    F(SC)             fence
 *   ADD(A, x, 1, AR)          fetch_add    XCHG(A, x, 1, AR) exchange; the value before to a
 *   CAS(A, B, x, 0, 1, AR, ACQ)  whether it exchanges 0 for 1 to a, what it has read to b; orders
 *                             of success and of failure
 */
#ifndef MODEL_LITMUS_PROGRAMS_H
#define MODEL_LITMUS_PROGRAMS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, OPERATIONS = 4, LOCATIONS = 4, REGISTERS = 5 };
enum order { RLX, ACQ, REL, AR, SC };
enum kind { NOTHING, STORE, LOAD, FETCH_ADD, EXCHANGE, COMPARE, FENCE };
enum { NO, A, B, C, D, E }; /* registers */
enum location { x, y, z, w };

struct operation {
    enum kind kind;
    enum location location;
    int value;      /* stored, added, or put there by a CAS */
    int from;       /* register that is added to the value of a store */
    int to, to_old; /* registers that are written */
    int wanted;
    enum order order, failure;
};

struct program {
    const char *name;
    int genmc; /* outcomes that GenMC counts; 0: it has not been asked */
    struct operation threads[THREADS][OPERATIONS];
};

/* clang-format off */
#define W(l, v, o) {.kind = STORE, .location = l, .value = v, .order = o}
#define WR(l, r, v, o) {.kind = STORE, .location = l, .value = v, .from = r, .order = o}
#define R(r, l, o) {.kind = LOAD, .location = l, .to = r, .order = o}
#define ADD(r, l, v, o) {.kind = FETCH_ADD, .location = l, .value = v, .to = r, .order = o}
#define XCHG(r, l, v, o) {.kind = EXCHANGE, .location = l, .value = v, .to = r, .order = o}
#define CAS(r, old, l, want, v, o, f)                                                              \
    {                                                                                              \
        .kind = COMPARE, .location = l, .value = v, .to = r, .to_old = old, .wanted = want,        \
        .order = o, .failure = f                                                                   \
    }
#define F(o) {.kind = FENCE, .order = o}

/*
 * The numbers are those of GenMC with its option -rc11, which was given the same programs in C. It
 * differs from RC11 in two things, and axioms.c counts both ways:
 *
 *   - A CAS that fails has the order of success in GenMC. In C11 it has the order of failure. So
 *     the two programs with a failing CAS have 4 and 3 outcomes in C11, and 3 and 4 in GenMC.
 *   - Z6.U has 18 outcomes in GenMC, and 20 in RC11. The paper that defines RC11 calls one of these
 *     two the reason for sb≠loc in psc. GenMC's number results if the step inside of a
 *     read-modify-write, from its read to its write, counts as sb≠loc.
 */
static const struct program programs[] = {
    {"2+2W", 4, {{W(x, 1, RLX), W(y, 2, RLX)}, {W(y, 1, RLX), W(x, 2, RLX)}}},
    {"2+2W, release", 4, {{W(x, 1, REL), W(y, 2, REL)}, {W(y, 1, REL), W(x, 2, REL)}}},
    {"2+2W, fences", 3, {{W(x, 1, RLX), F(SC), W(y, 2, RLX)}, {W(y, 1, RLX), F(SC), W(x, 2, RLX)}}},
    {"S", 4, {{W(x, 2, RLX), W(y, 1, RLX)}, {R(A, y, RLX), W(x, 1, RLX)}}},
    {"S, release and acquire", 3, {{W(x, 2, RLX), W(y, 1, REL)}, {R(A, y, ACQ), W(x, 1, RLX)}}},
    {"R, seq_cst", 3, {{W(x, 1, SC), W(y, 1, SC)}, {W(y, 2, SC), R(A, x, SC)}}},
    {"R, fences", 3, {{W(x, 1, RLX), F(SC), W(y, 1, RLX)}, {W(y, 2, RLX), F(SC), R(A, x, RLX)}}},
    {"LB", 3, {{R(A, x, RLX), W(y, 1, RLX)}, {R(B, y, RLX), W(x, 1, RLX)}}},
    {"LB, one acquire", 3, {{R(A, x, ACQ), W(y, 1, RLX)}, {R(B, y, RLX), W(x, 1, RLX)}}},
    {"LB, one dependency", 3, {{R(A, x, RLX), WR(y, A, 1, RLX)}, {R(B, y, RLX), W(x, 1, RLX)}}},
    {"MP, the thread that releases stores again", 5,
     {{W(x, 1, RLX), W(y, 1, REL), W(y, 2, RLX)}, {R(A, y, ACQ), R(B, x, RLX)}}},
    {"MP, release sequence of two read-modify-writes", 36,
     {{W(x, 1, RLX), W(y, 1, REL)}, {ADD(A, y, 10, RLX)}, {ADD(B, y, 100, RLX)},
      {R(C, y, ACQ), R(D, x, RLX)}}},
    {"MP, release sequence broken by a store", 20,
     {{W(x, 1, RLX), W(y, 1, REL)}, {W(y, 4, RLX), ADD(A, y, 10, RLX)},
      {R(C, y, ACQ), R(D, x, RLX)}}},
    {"atomicity", 12, {{ADD(A, x, 1, RLX)}, {ADD(B, x, 2, RLX)}, {W(x, 10, RLX), R(C, x, RLX)}}},
    {"two CASes, one wins", 2, {{CAS(A, B, x, 0, 1, RLX, RLX)}, {CAS(C, D, x, 0, 2, RLX, RLX)}}},
    {"MP, failing CAS relaxed", 3,
     {{W(x, 1, RLX), W(y, 1, REL)}, {CAS(A, B, y, 7, 8, AR, RLX), R(C, x, RLX)}}},
    {"MP, failing CAS acquire", 4,
     {{W(x, 1, RLX), W(y, 1, REL)}, {CAS(A, B, y, 7, 8, RLX, ACQ), R(C, x, RLX)}}},
    {"MP, CAS of a store that is not the last", 6,
     {{W(x, 1, RLX), W(x, 2, RLX), W(y, 1, RLX)}, {R(A, y, RLX), CAS(B, C, x, 2, 3, RLX, RLX)}}},
    {"MP, seq_cst data, relaxed flag", 4,
     {{W(x, 1, SC), W(y, 1, RLX)}, {R(A, y, RLX), R(B, x, SC)}}},
    {"IRIW, seq_cst", 15,
     {{W(x, 1, SC)}, {W(y, 1, SC)}, {R(A, x, SC), R(B, y, SC)}, {R(C, y, SC), R(D, x, SC)}}},
    {"IRIW, first loads acquire", 16,
     {{W(x, 1, SC)}, {W(y, 1, SC)}, {R(A, x, ACQ), R(B, y, SC)}, {R(C, y, ACQ), R(D, x, SC)}}},
    {"IRIW, stores release", 16,
     {{W(x, 1, REL)}, {W(y, 1, REL)}, {R(A, x, SC), R(B, y, SC)}, {R(C, y, SC), R(D, x, SC)}}},
    {"IRIW, fences", 15,
     {{W(x, 1, RLX)}, {W(y, 1, RLX)}, {R(A, x, RLX), F(SC), R(B, y, RLX)},
      {R(C, y, RLX), F(SC), R(D, x, RLX)}}},
    {"SB, fence and seq_cst", 3,
     {{W(x, 1, RLX), F(SC), R(A, y, RLX)}, {W(y, 1, SC), R(B, x, SC)}}},
    {"SB, exchanges for stores", 4,
     {{XCHG(NO, x, 1, AR), R(A, y, ACQ)}, {XCHG(NO, y, 1, AR), R(B, x, ACQ)}}},
    {"SB, read-modify-writes of one location between", 3,
     {{W(x, 1, RLX), ADD(NO, z, 0, AR), R(A, y, RLX)},
      {W(y, 1, RLX), ADD(NO, z, 0, AR), R(B, x, RLX)}}},
    {"SB, release against CAS", 3,
     {{W(x, 1, REL), ADD(A, z, 0, REL)}, {CAS(B, E, z, 0, 1, AR, ACQ), R(C, x, ACQ)}}},
    {"SB, relaxed against CAS", 4,
     {{W(x, 1, REL), ADD(A, z, 0, RLX)}, {CAS(B, E, z, 0, 1, AR, ACQ), R(C, x, ACQ)}}},
    {"RWC, fences", 7,
     {{W(x, 1, RLX)}, {R(A, x, RLX), F(SC), R(B, y, RLX)}, {W(y, 1, RLX), F(SC), R(C, x, RLX)}}},
    {"W+RWC, fences", 7,
     {{W(x, 1, RLX), W(z, 1, REL)}, {R(A, z, ACQ), F(SC), R(B, y, RLX)},
      {W(y, 1, RLX), F(SC), R(C, x, RLX)}}},
    {"Z6.U", 18,
     {{W(x, 1, SC), W(y, 1, REL)}, {ADD(A, y, 1, SC), R(B, y, RLX)}, {W(y, 3, SC), R(C, x, SC)}}},
    {"WRC", 7, {{W(x, 1, RLX)}, {R(A, x, RLX), W(y, 1, REL)}, {R(B, y, ACQ), R(C, x, RLX)}}},
    {"ISA2, one link relaxed", 8,
     {{W(x, 1, RLX), W(y, 1, REL)}, {R(A, y, RLX), W(z, 1, REL)}, {R(B, z, ACQ), R(C, x, RLX)}}},
    {"MP, fences through a read-modify-write", 8,
     {{W(x, 1, RLX), F(REL), W(y, 1, RLX)}, {ADD(A, y, 1, RLX)},
      {R(B, y, RLX), F(ACQ), R(C, x, RLX)}}},
    {"MP, one release fence, two flags", 9,
     {{W(x, 1, RLX), F(REL), W(y, 1, RLX), W(z, 1, RLX)}, {R(A, y, ACQ), R(B, x, RLX)},
      {R(C, z, RLX), F(ACQ), R(D, x, RLX)}}},
    {"CoRR, CoRW, CoWR", 5,
     {{W(x, 1, RLX), R(A, x, RLX)}, {W(x, 2, RLX), R(B, x, RLX), R(C, x, RLX)}}},
    {"CoRR2", 72,
     {{W(x, 1, RLX)}, {W(x, 2, RLX)}, {R(A, x, RLX), R(B, x, RLX)}, {R(C, x, RLX), R(D, x, RLX)}}},
    {"MP, fence of the reader only", 4,
     {{W(x, 1, RLX), W(y, 1, RLX)}, {R(A, y, RLX), F(SC), R(B, x, RLX)}}},
    {"MP, another stores the same flag", 4,
     {{W(x, 1, RLX), W(y, 1, REL)}, {W(y, 1, RLX)}, {R(A, y, ACQ), R(B, x, RLX)}}},
    {"two stores, seen in turn", 48,
     {{W(x, 1, RLX), R(A, y, RLX)}, {W(y, 1, RLX), W(x, 2, RLX)},
      {R(B, x, RLX), R(C, x, RLX), R(D, y, RLX)}}},
    {"MP, the reader stores the flag, too", 5,
     {{W(x, 1, RLX), W(y, 1, REL)}, {W(y, 2, RLX), R(A, y, ACQ), R(B, x, RLX)}}},
    {"2+2W, seen by two", 144,
     {{W(x, 1, RLX), W(y, 1, RLX)}, {W(y, 2, RLX), W(x, 2, RLX)}, {R(A, x, RLX), R(B, x, RLX)},
      {R(C, y, RLX), R(D, y, RLX)}}},
    {"ISA2, fences", 7,
     {{W(x, 1, RLX), F(REL), W(y, 1, RLX)}, {R(A, y, RLX), F(SC), W(z, 1, RLX)},
      {R(B, z, RLX), F(SC), R(C, x, RLX)}}},
    {"MP, a CAS relaxed if it fails, and a fence", 3,
     {{W(x, 1, RLX), XCHG(NO, y, 1, REL)},
      {CAS(A, B, y, 0, 5, ACQ, RLX), F(ACQ), R(C, x, RLX)}}},
    {"SB, seq_cst read-modify-writes of others between", 4,
     {{W(x, 1, RLX), ADD(NO, z, 1, SC), R(A, y, RLX)},
      {W(y, 1, RLX), ADD(NO, w, 1, SC), R(B, x, RLX)}}},
    {"SB of three threads, fences", 7,
     {{W(x, 1, RLX), F(SC), R(A, y, RLX)}, {W(y, 1, RLX), F(SC), R(B, z, RLX)},
      {W(z, 1, RLX), F(SC), R(C, x, RLX)}}},
    {"out of thin air", 1, {{R(A, x, RLX), WR(y, A, 0, RLX)}, {R(B, y, RLX), WR(x, B, 0, RLX)}}},
    {"SB, seq_cst store and fence, release and fence", 3,
     {{W(x, 1, SC), F(SC), R(A, y, ACQ)}, {W(y, 1, REL), F(SC), R(B, x, ACQ)}}},
    {"ISA2, fences at its ends", 0,
     {{W(x, 1, RLX), F(SC), W(y, 1, RLX)}, {R(A, y, RLX), W(z, 1, RLX)},
      {R(B, z, RLX), F(SC), R(C, x, RLX)}}},
    {"2+2W, read-modify-writes last", 0,
     {{W(x, 1, RLX), ADD(A, y, 10, RLX)}, {W(y, 2, RLX), ADD(B, x, 10, RLX)}}},
    {"2+2W, CASes last", 0,
     {{W(x, 1, RLX), CAS(A, B, y, 0, 3, RLX, RLX)}, {W(y, 2, RLX), CAS(C, D, x, 0, 4, RLX, RLX)}}},
    {"S, seq_cst against release and acquire", 0,
     {{W(x, 2, SC), W(y, 1, SC)}, {R(A, y, RLX), W(x, 1, SC), R(B, x, SC)}}},
};
/* clang-format on */

enum { PROGRAMS = sizeof programs / sizeof *programs };

/* ------------------------------------------------------------------------------ random programs */

static inline unsigned random_below(uint64_t *state, unsigned below)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t bits = *state;
    bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9u;
    bits = (bits ^ bits >> 27) * 0x94d049bb133111ebu;
    return (unsigned)((bits ^ bits >> 31) % below);
}

/* Each store has a value of its own, so that outcomes tell them apart. */
static inline struct operation random_operation(uint64_t *state, int locations, int value, int to)
{
    static const enum order of_store[] = {RLX, RLX, REL, SC, SC},
                            of_load[] = {RLX, RLX, ACQ, SC, SC},
                            of_both[] = {RLX, ACQ, REL, AR, SC},
                            of_fence[] = {SC, SC, SC, REL, ACQ};
    unsigned kind = random_below(state, 20), order = random_below(state, 5);
    struct operation operation = {
        .location = (enum location)random_below(state, (unsigned)locations), .value = value};
    operation.kind = kind < 7    ? STORE
                     : kind < 13 ? LOAD
                     : kind < 16 ? FENCE
                     : kind < 17 ? FETCH_ADD
                     : kind < 18 ? EXCHANGE
                                 : COMPARE;
    operation.order = operation.kind == STORE   ? of_store[order]
                      : operation.kind == LOAD  ? of_load[order]
                      : operation.kind == FENCE ? of_fence[order]
                                                : of_both[order];
    if (operation.kind == COMPARE)
        operation.failure = of_load[random_below(state, 5)];
    operation.wanted = (int)random_below(state, 3);
    if (operation.kind == COMPARE)
        operation.to_old = to;
    else if (operation.kind != STORE && operation.kind != FENCE)
        operation.to = to;
    return operation;
}

static inline struct program random_program(uint64_t seed)
{
    struct program program = {.name = "random"};
    int threads = 2 + (int)random_below(&seed, 2), locations = 2 + (int)random_below(&seed, 2);
    int most = threads == 2 ? 4 : 3, value = 0, to = NO;
    for (int t = 0; t < threads; t++)
        for (int o = 0; o < most; o++) {
            int next = to < E ? to + 1 : NO;
            program.threads[t][o] = random_operation(&seed, locations, ++value, next);
            if (program.threads[t][o].to || program.threads[t][o].to_old)
                to = next;
        }
    return program;
}

/* By number from 1 on, or "r" and a seed. */
static inline struct program program_named(const char *name)
{
    if (*name == 'r')
        return random_program(strtoull(name + 1, NULL, 10));
    int number = atoi(name);
    return number >= 1 && number <= PROGRAMS ? programs[number - 1]
                                             : (struct program){.name = NULL};
}

/* Registers and final values as one number, 7 bits each. */
static inline uint64_t outcome_of(const int *registers, const int *values)
{
    uint64_t outcome = 0;
    for (int r = A; r <= REGISTERS; r++)
        outcome = outcome << 7 | ((uint64_t)registers[r] & 127);
    for (int l = 0; l < LOCATIONS; l++)
        outcome = outcome << 7 | ((uint64_t)values[l] & 127);
    return outcome;
}

#endif
