"""The stack bound against what simulated cores really overwrite."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import samples, write_tiny

from intaglio.boards.cores import CORES
from intaglio.host.footprint import measure
from intaglio.host.simcore import run_on_core
from intaglio.quantizer.errors import CodegenError

# A chain through the library's own frames, a tail call, memcpy, libgcc's 64-bit division, and a big frame.
_DEEP = """\
#include <string.h>
int64_t quotient(int64_t a, int64_t b);
int64_t __attribute__((noinline)) quotient(int64_t a, int64_t b) { return a / b; }
int32_t inner(const int32_t *a, int32_t n);
int32_t __attribute__((noinline)) inner(const int32_t *a, int32_t n)
{
    volatile int32_t copy[WORDS];
    for (int i = 0; i < WORDS; i++) { copy[i] = a[i & 3] + i; }
    return (int32_t)quotient(copy[n & 63], copy[(n + 1) & 63] | 1);
}
int32_t outer(const int32_t *a, int32_t n);
int32_t __attribute__((noinline)) outer(const int32_t *a, int32_t n)
{
    int32_t local[16];
    memcpy(local, a, 16);
    return inner(local, n) ^ local[n & 3];
}
"""
_CALL = "int32_t v[4] = {bytes[4], 2, 3, 4}; *calls += outer(v, bytes[5]) & 0;"


@pytest.mark.parametrize("words", [64, 700])
@pytest.mark.parametrize("core", sorted(CORES))
def test_the_bound_holds_and_is_tight(tmp_path: Path, core: str, words: int) -> None:
    library = write_tiny(tmp_path, helpers=_DEEP.replace("WORDS", str(words)), extra=_CALL)
    bound = measure(library, CORES[core]).stack_bytes
    used = run_on_core(library, CORES[core], [[x] for x in samples(3)], count=False).stack_bytes
    assert used <= bound <= used + 64
    assert bound > 4 * words


@pytest.mark.parametrize("core", sorted(CORES))
def test_the_plain_sample_needs_what_it_uses(tmp_path: Path, core: str) -> None:
    library = write_tiny(tmp_path)
    footprint = measure(library, CORES[core])
    result = run_on_core(library, CORES[core], [[x] for x in samples(3)])
    assert result.stack_bytes <= footprint.stack_bytes <= result.stack_bytes + 16
    assert result.flash_bytes == footprint.flash_bytes


@pytest.mark.parametrize(
    ("helpers", "extra", "message"),
    [
        (
            "int32_t again(int32_t n); int32_t __attribute__((noinline)) again(int32_t n)"
            "{ volatile int32_t k = n; return n < 1 ? 0 : again(n - 1) * k + again(n - 2); }",
            "*calls += again(bytes[4]);",
            "calls itself .*again -> again",
        ),
        (
            "int32_t pick(int32_t (*f)(int32_t)); int32_t __attribute__((noinline)) pick(int32_t (*f)(int32_t))"
            "{ volatile int32_t k = 1; return f(k) + k; }"
            "int32_t one(int32_t n); int32_t one(int32_t n) { return n; }"
            "int32_t two(int32_t n); int32_t two(int32_t n) { return n + 2; }",
            "*calls += pick(bytes[4] ? one : two);",
            "through a pointer",
        ),
        (
            "int32_t wide(int32_t n); int32_t __attribute__((noinline)) wide(int32_t n)"
            "{ volatile int32_t k[n]; for (int i = 0; i < n; i++) { k[i] = i; } return k[n - 1]; }",
            "*calls += wide(bytes[4]);",
            "no fixed size",
        ),
    ],
)
def test_what_cannot_be_bounded_is_refused(tmp_path: Path, helpers: str, extra: str, message: str) -> None:
    with pytest.raises(CodegenError, match=message):
        measure(write_tiny(tmp_path, helpers=helpers, extra=extra), CORES["cortex-m3"])


def test_low_overhead_loops_are_not_taken_for_calls(tmp_path: Path) -> None:
    helpers = """
void scale(int8_t *y, int32_t n);
void __attribute__((noinline)) scale(int8_t *y, int32_t n)
{
    __asm__ volatile("dls lr, %1\\n 1: ldrb r3, [%0]\\n adds r3, r3, #1\\n strb r3, [%0]\\n le lr, 1b"
                     : : "r"(y), "r"(n) : "r3", "lr", "cc", "memory");
}
"""
    library = write_tiny(tmp_path, helpers=helpers, extra="scale(bytes + 20, 5);")
    bound = measure(library, CORES["cortex-m55"]).stack_bytes
    used = run_on_core(library, CORES["cortex-m55"], [[samples(1)[0]]], count=False).stack_bytes
    assert used <= bound <= used + 16


def test_the_symbols_of_a_library_are_sized(tmp_path: Path) -> None:
    symbols = measure(write_tiny(tmp_path), CORES["cortex-m3"]).symbols
    assert symbols["tiny_model"] == 76 and symbols["input_shape"] == 8
    assert symbols["tiny_invoke"] > 40
