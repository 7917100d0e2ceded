"""A small library written by hand to the generated library's contract, and what it must compute.

Input int8[8] -> layer 0: int8[4] = clamp((W0 x + B0) >> 4) -> layer 1: int8[3] = clamp((W1 h) >> 3 + calls),
where `calls` counts the invokes since reset (the state).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

import intaglio.codegen

W0 = np.array([[((7 * i + 3 * j) % 23) - 11 for j in range(8)] for i in range(4)], np.int32)
B0 = np.array([100, -50, 7, 0], np.int32)
W1 = np.array([[((5 * i + 11 * j) % 19) - 9 for j in range(4)] for i in range(3)], np.int32)

_HEADER = """\
#ifndef TINY_H
#define TINY_H
#include <stdint.h>
{abi}
#define TINY_ARENA_BYTES 24
#define TINY_STATE_BYTES 4
void tiny_reset(void *arena);
void *tiny_input(void *arena, int index);
int tiny_invoke(void *arena);
const void *tiny_output(const void *arena, int index);
extern const struct intaglio_model tiny_model;
#endif
"""

_SOURCE = """\
#include "tiny.h"
#include <stddef.h>

#ifndef TINY_TRACE
#define TINY_TRACE(layer, output, data, bytes) ((void)0)
#endif

static const int8_t w0[4][8] = {w0};
static const int32_t b0[4] = {b0};
static const int8_t w1[3][4] = {w1};

static int8_t clamp(int32_t value)
{{
    return (int8_t)(value < -128 ? -128 : value > 127 ? 127 : value);
}}

static void first(const int8_t *x, int8_t *y)
{{
    for (int i = 0; i < 4; i++) {{
        int32_t sum = b0[i];
        for (int j = 0; j < 8; j++) {{
            sum += (int32_t)w0[i][j] * x[j];
        }}
        y[i] = clamp(sum >> 4);
    }}
}}

static void second(const int8_t *x, int8_t *y, int32_t calls)
{{
    for (int i = 0; i < 3; i++) {{
        int32_t sum = 0;
        for (int j = 0; j < 4; j++) {{
            sum += (int32_t)w1[i][j] * x[j];
        }}
        y[i] = clamp((sum >> 3) + calls);
    }}
}}

void tiny_reset(void *arena)
{{
    *(int32_t *)arena = 0;
}}

void *tiny_input(void *arena, int index)
{{
    return index == 0 ? (uint8_t *)arena + 4 : NULL;
}}

{helpers}
int tiny_invoke(void *arena)
{{
    int32_t *calls = arena;
    int8_t *bytes = arena;
    *calls += 1;
    first(bytes + 4, bytes + 12);
    TINY_TRACE(0, 0, bytes + 12, 4);
    second(bytes + 12, bytes + 16, *calls);
    TINY_TRACE(1, 0, bytes + 16, 3);
    {extra}
    return {status};
}}

const void *tiny_output(const void *arena, int index)
{{
    return index == 0 ? (const uint8_t *)arena + 16 : NULL;
}}

static const int32_t input_shape[2] = {{1, 8}};
static const int32_t output_shape[2] = {{1, 3}};
static const struct intaglio_tensor inputs[1] = {{
    {{.name = "x", .shape = input_shape, .bytes = 8, .dtype = INTAGLIO_INT8, .rank = 2}}}};
static const struct intaglio_tensor outputs[1] = {{
    {{.name = "y", .shape = output_shape, .bytes = 3, .dtype = INTAGLIO_INT8, .rank = 2}}}};
const struct intaglio_model tiny_model = {{
    .abi_version = INTAGLIO_ABI_VERSION,
    .arena_bytes = TINY_ARENA_BYTES,
    .state_bytes = TINY_STATE_BYTES,
    .layer_count = 2,
    .input_count = 1,
    .output_count = 1,
    .name = "tiny",
    .inputs = inputs,
    .outputs = outputs,
    .reset = tiny_reset,
    .input = tiny_input,
    .invoke = tiny_invoke,
    .output = tiny_output,
}};
"""


def write_tiny(folder: Path, *, helpers: str = "", extra: str = "(void)0;", status: str = "0") -> Path:
    """Write the library; `extra` is C that ends invoke, `helpers` C before it, `status` what it returns."""
    folder.mkdir(parents=True, exist_ok=True)
    abi = (Path(intaglio.codegen.__file__).parent / "templates" / "abi.h.j2").read_text(encoding="utf-8")
    (folder / "tiny.h").write_text(_HEADER.format(abi=abi), encoding="utf-8")
    text = _SOURCE.format(
        w0=_c(W0),
        b0=_c(B0),
        w1=_c(W1),
        helpers=helpers,
        extra=extra,
        status=status,
    )
    (folder / "tiny.c").write_text(text, encoding="utf-8")
    return folder


def _c(array: npt.NDArray[np.int32]) -> str:
    return str(array.tolist()).replace("[", "{").replace("]", "}")


def expected(inputs: list[npt.NDArray[np.int8]]) -> list[tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]]:
    """Per sample: the tensors after layer 0 and after layer 1, the state running on."""
    results = []
    for calls, x in enumerate(inputs, start=1):
        hidden = np.clip((W0 @ x.astype(np.int32) + B0) >> 4, -128, 127)
        final = np.clip(((W1 @ hidden) >> 3) + calls, -128, 127)
        results.append((hidden.astype(np.int8), final.astype(np.int8)))
    return results


def samples(count: int, seed: int = 1) -> list[npt.NDArray[np.int8]]:
    return list(np.random.default_rng(seed).integers(-128, 128, (count, 8), np.int8))
