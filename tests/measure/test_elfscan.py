"""Planted floats of every kind are found, integer code of every kind is not."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tiny import write_tiny

from intaglio.boards.cores import CORES, Core
from intaglio.codegen.thumb import open_members
from intaglio.host.elfscan import check_armv6m, is_float_symbol, scan_elf
from intaglio.host.library import open_library
from intaglio.host.simcore import build_image
from intaglio.host.toolchain import compile_objects, find_compiler, run_tool
from intaglio.quantizer.errors import ToolError


def build(tmp_path: Path, source: str, core: Core, flags: tuple[str, ...] | None = None) -> Path:
    file = tmp_path / "planted.c"
    file.write_text(source)
    chosen = core.cflags if flags is None else flags
    return compile_objects(find_compiler("arm-none-eabi-gcc"), [file], tmp_path, ["-O2", *chosen])[0]


@pytest.mark.parametrize("core", sorted(CORES))
def test_the_sample_library_and_its_image_are_clean(tmp_path: Path, core: str) -> None:
    image = build_image(open_library(write_tiny(tmp_path / "lib")), CORES[core], tmp_path / "work")
    for path in (image.elf, *image.objects):
        report = scan_elf(path, CORES[core])
        assert report.findings == [] and report.clean
        assert report.instructions > 80 and report.symbols > 10


@pytest.mark.parametrize(
    ("source", "helper"),
    [
        ("float f(float a, float b) { return a + b; }", "__aeabi_fadd"),
        ("float f(float a, float b) { return a * b; }", "__aeabi_fmul"),
        ("double f(double a, double b) { return a / b; }", "__aeabi_ddiv"),
        ("float f(int a) { return (float)a; }", "__aeabi_i2f"),
        ("double f(unsigned a) { return a; }", "__aeabi_ui2d"),
        ("float f(long long a) { return (float)a; }", "__aeabi_l2f"),
        ("int f(float a) { return (int)a; }", "__aeabi_f2iz"),
        ("long long f(double a) { return (long long)a; }", "__aeabi_d2lz"),
        ("int f(float a, float b) { return a < b; }", "__aeabi_fcmplt"),
        ("double f(float a) { return a; }", "__aeabi_f2d"),
        ("float expf(float); float f(float a) { return expf(a); }", "expf"),
        ("_Complex float f(_Complex float a) { return a * a; }", "__mulsc3"),
    ],
)
@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4"])
def test_software_float_is_found(tmp_path: Path, core: str, source: str, helper: str) -> None:
    report = scan_elf(build(tmp_path, source, CORES[core]), CORES[core])
    assert not report.clean
    assert any(f" {helper} called" in line for line in report.findings)


@pytest.mark.parametrize(
    "source",
    [
        "float f(float a, float b) { return a + b; }",
        "float f(int a) { return (float)a; }",
        "int f(float a) { return (int)a; }",
        "int f(float a, float b) { return a < b; }",
        "float f(void) { return 1.0f; }",
    ],
)
def test_vfp_instructions_are_found(tmp_path: Path, source: str) -> None:
    flags = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
    report = scan_elf(build(tmp_path, source, CORES["cortex-m4"], flags), CORES["cortex-m4"])
    assert not report.clean
    assert any("planted.o: f at" in line and ": v" in line for line in report.findings)


_MVE = ("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard")


@pytest.mark.parametrize("body", ["vaddq_f32(a, b)", "vmulq_f32(a, b)", "vfmaq_f32(a, a, b)", "vabsq_f32(a)"])
def test_mve_float_is_found(tmp_path: Path, body: str) -> None:
    signature = "float32x4_t f(float32x4_t a, float32x4_t b)"
    source = f"#include <arm_mve.h>\n{signature} {{ (void)b; return {body}; }}"
    report = scan_elf(build(tmp_path, source, CORES["cortex-m55"], _MVE), CORES["cortex-m55"])
    assert not report.clean and any(".f32" in line for line in report.findings)


def test_what_cannot_be_decoded_is_not_called_clean(tmp_path: Path) -> None:
    source = 'void f(void) { __asm__ volatile(".inst.w 0xea5191d1"); }'
    assert scan_elf(build(tmp_path, source, CORES["cortex-m55"]), CORES["cortex-m55"]).clean  # cinc
    report = scan_elf(build(tmp_path, source, CORES["cortex-m3"]), CORES["cortex-m3"])
    assert not report.clean and "not an instruction" in report.findings[0]


def test_integer_mve_and_moves_of_the_register_file_are_allowed(tmp_path: Path) -> None:
    source = """
        #include <arm_mve.h>
        int f(const int8_t *a, const int8_t *b, int n, int8_t *y) {
            int sum = 0;
            for (; n > 0; n -= 16) {
                mve_pred16_t p = vctp8q((unsigned)n);
                int8x16_t x = vldrbq_z_s8(a, p), w = vldrbq_z_s8(b, p);
                sum = vmladavaq_p_s8(sum, x, w, p);
                vstrbq_p_s8(y, vqaddq_s8(x, w), p);
            }
            __asm__ volatile("vpush {d8-d9}\\n vmov s0, %0\\n vmov.f32 s1, s0\\n vpop {d8-d9}"
                             : : "r"(sum) : "s0", "s1");
            return sum;
        }"""
    report = scan_elf(build(tmp_path, source, CORES["cortex-m55"], _MVE), CORES["cortex-m55"])
    assert report.findings == []
    assert report.clean


@pytest.mark.parametrize(
    "name",
    [
        "__aeabi_idiv",
        "__aeabi_uidivmod",
        "__aeabi_lmul",
        "__aeabi_ldivmod",
        "__aeabi_llsl",
        "__aeabi_memcpy",
        "__aeabi_uldivmod",
        "__aeabi_lcmp",
        "__aeabi_idiv0",
        "__muldi3",
        "__udivsi3",
        "__clzsi2",
        "__popcountsi2",
        "__ashldi3",
        "__gnu_thumb1_case_uqi",
        "model_exp",
        "conv_f32_like",
        "tiny_floor",
        "__divsi3",
        "__negdi2",
        "memset",
    ],
)
def test_integer_helpers_are_not_taken_for_float(name: str) -> None:
    assert not is_float_symbol(name)


def libgcc(cpu: str) -> Path:
    gcc = find_compiler("arm-none-eabi-gcc").command
    done = run_tool([*gcc, f"-mcpu={cpu}", "-mthumb", "-print-libgcc-file-name"], timeout=20)
    return Path(done.stdout.strip())


@pytest.mark.parametrize("cpu", ["cortex-m0", "cortex-m4"])
def test_the_float_members_of_libgcc_are_recognised_and_no_other(cpu: str) -> None:
    """libgcc names each object after its function: a floating-point mode in that name tells the two apart."""
    seen: dict[bool, list[str]] = {True: [], False: []}
    for member in open_members(libgcc(cpu)):
        is_float = re.search(r"[sdh]f(?![a-z]*unwind)|[sd]c3|fp16", member.name) is not None
        for symbol in member.elf.get_section_by_name(".symtab").iter_symbols():
            if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF":
                seen[is_float].append(symbol.name)
    assert len(seen[True]) > 80 and len(seen[False]) > 80
    assert [name for name in seen[True] if not is_float_symbol(name)] == []
    assert [name for name in seen[False] if is_float_symbol(name)] == []


def test_a_stripped_image_is_not_called_clean(tmp_path: Path) -> None:
    image = build_image(open_library(write_tiny(tmp_path / "lib")), CORES["cortex-m3"], tmp_path / "work")
    subprocess.run(["arm-none-eabi-strip", str(image.elf)], check=True, timeout=20)
    report = scan_elf(image.elf, CORES["cortex-m3"])
    assert not report.clean and "no symbol table" in report.findings[0]


def test_archives_are_searched_member_by_member(tmp_path: Path) -> None:
    core = CORES["cortex-m0"]
    bad = build(tmp_path, "float f(float a, float b) { return a - b; }", core)
    source = write_tiny(tmp_path / "lib") / "tiny.c"
    good = compile_objects(find_compiler("arm-none-eabi-gcc"), [source], tmp_path, ["-O2", *core.cflags])[0]
    long_name = good.rename(tmp_path / "a_member_with_a_name_beyond_fifteen.o")
    archive = tmp_path / "both.a"
    subprocess.run(["arm-none-eabi-ar", "rc", str(archive), str(long_name), str(bad)], check=True, timeout=20)
    report = scan_elf(archive, core)
    assert report.findings == ["planted.o: __aeabi_fsub called"]
    assert check_armv6m(archive) == []


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"not an object", b"!<arch>\ngarbage"])
def test_what_is_not_an_elf_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.o"
    file.write_bytes(content)
    with pytest.raises(ToolError):
        scan_elf(file, CORES["cortex-m0"])
    with pytest.raises(ToolError):
        check_armv6m(file)


def test_data_among_the_code_that_looks_like_a_label_is_data(tmp_path: Path) -> None:
    """Where constants lie in the code's section, objdump dumps their bytes as text beside the numbers."""
    weights = ", ".join(str(b) for b in b"J.$.C1@*FXkHa5>:" * 2)
    library = write_tiny(
        tmp_path / "lib",
        helpers=f"const uint8_t weights[32] = {{ {weights} }};",
        extra="for (uint8_t i = 0; i < 32u; i++) { *(volatile uint8_t *)bytes = weights[i]; }",
    )
    image = build_image(open_library(library), CORES["cortex-m0"], tmp_path / "work")
    dump = subprocess.run(["arm-none-eabi-objdump", "-d", image.elf], capture_output=True, text=True, timeout=20)
    assert re.search(r"^ .*a5>:$", dump.stdout, re.M)
    assert scan_elf(image.elf, CORES["cortex-m0"]).clean


def test_all_m0_code_of_the_compiler_is_armv6m_and_m3_code_is_not() -> None:
    assert check_armv6m(libgcc("cortex-m0")) == []
    assert len(check_armv6m(libgcc("cortex-m3"))) > 1000


@pytest.mark.parametrize(
    "text",
    [
        "movw r0, #1",
        "cbz r0, 1f\\n nop\\n 1: nop",
        "it eq\\n moveq r0, r1",
        "b.w f",
        "mla r0, r1, r2, r3",
        "udiv r0, r1, r2",
        "ldr.w r0, [r1, #64]",
        "smull r0, r1, r2, r3",
        "push {r8}",
        "cpsid f",
    ],
)
def test_single_instructions_beyond_armv6m_are_found(tmp_path: Path, text: str) -> None:
    source = f'void f(void) {{ __asm__ volatile(".syntax unified\\n .arch armv7-m\\n {text}\\n"); }}'
    assert len(check_armv6m(build(tmp_path, source, CORES["cortex-m0"]))) >= 1


def test_single_instructions_of_armv6m_pass(tmp_path: Path) -> None:
    source = """void g(void); void f(void) { __asm__ volatile(
        ".syntax unified\\n cpsid i\\n mrs r0, primask\\n msr primask, r0\\n dsb\\n dmb\\n isb\\n nop\\n"
        "wfi\\n sev\\n rev r0, r1\\n sxtb r0, r1\\n muls r0, r1, r0\\n blx r3\\n bl g\\n svc #1\\n bkpt #0\\n"
        "udf #0\\n push {r4, lr}\\n pop {r4, pc}"); }"""
    assert check_armv6m(build(tmp_path, source, CORES["cortex-m0"])) == []
