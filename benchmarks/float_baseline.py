"""The software-float baseline: a network as plain binary32 C with the interface of a generated library.

What a straightforward port gives: one loop nest per layer, weights as `const float`, dimensions as constants, the
fused activation in the loop. No float unit is used, so every operation is a call of the compiler's soft-float
library. The interface stays quantised: inputs are dequantised and outputs quantised once at the edges.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

from floatnet import FloatNet, Floats, Layer, Port, Shape

import intaglio.codegen

_HEAD = """\
#include "{name}.h"
#include <stddef.h>

static float to_range(float v, float low, float high)
{{
    return v < low ? low : v > high ? high : v;
}}

static int32_t nearest(float v)
{{
    return (int32_t)(v < 0.0f ? v - 0.5f : v + 0.5f);
}}
"""

_EXPONENTIAL = """\
/* exp(x) for x <= 0: 2^k times a polynomial of the rest. */
static float exponential(float x)
{
    if (x < -80.0f) {
        return 0.0f;
    }
    const float t = x * 1.44269504f;
    int32_t k = (int32_t)t;
    float r = (t - (float)k) * 0.69314718f;
    float sum = 1.0f + r * (1.0f + r * (0.5f + r * (0.16666667f + r * (0.041666667f + r * 0.0083333333f))));
    for (; k < 0; k++) {
        sum *= 0.5f;
    }
    return sum;
}
"""

_CONV = """\
static void layer_{n}(const float *x, float *y)
{{
    for (int oy = 0; oy < {oh}; oy++) {{
        for (int ox = 0; ox < {ow}; ox++) {{
            for (int oc = 0; oc < {oc}; oc++) {{
                float sum = {bias};
                for (int ky = 0; ky < {kh}; ky++) {{
                    const int iy = oy * {sh} + ky * {dh} - {pt};
                    if (iy < 0 || iy >= {ih}) {{
                        continue;
                    }}
                    for (int kx = 0; kx < {kw}; kx++) {{
                        const int ix = ox * {sw} + kx * {dw} - {pl};
                        if (ix < 0 || ix >= {iw}) {{
                            continue;
                        }}
{inner}
                    }}
                }}
                y[(oy * {ow} + ox) * {oc} + oc] = {result};
            }}
        }}
    }}
}}
"""
_CONV_INNER = """\
                        for (int ic = 0; ic < {ic}; ic++) {{
                            sum += x[(iy * {iw} + ix) * {ic} + ic] * w{n}[((oc * {kh} + ky) * {kw} + kx) * {ic} + ic];
                        }}"""
_DEPTHWISE_INNER = """\
                        sum += x[(iy * {iw} + ix) * {ic} + oc / {mult}] * w{n}[(ky * {kw} + kx) * {oc} + oc];"""
_AVERAGE_INNER = """\
                        sum += x[(iy * {iw} + ix) * {ic} + oc];
                        taps++;"""

_DENSE = """\
static void layer_{n}(const float *x, float *y)
{{
    for (int row = 0; row < {rows}; row++) {{
        for (int o = 0; o < {oc}; o++) {{
            float sum = {bias};
            for (int k = 0; k < {ic}; k++) {{
                sum += x[row * {ic} + k] * w{n}[o * {ic} + k];
            }}
            y[row * {oc} + o] = {result};
        }}
    }}
}}
"""
_ADD = """\
static void layer_{n}(const float *a, const float *b, float *y)
{{
    for (int i = 0; i < {count}; i++) {{
        const float sum = a[i] + b[i];
        y[i] = {result};
    }}
}}
"""
_SOFTMAX = """\
static void layer_{n}(const float *x, float *y)
{{
    for (int row = 0; row < {rows}; row++) {{
        const float *in = x + row * {count};
        float *out = y + row * {count};
        float top = in[0];
        float sum = 0.0f;
        for (int i = 1; i < {count}; i++) {{
            top = in[i] > top ? in[i] : top;
        }}
        for (int i = 0; i < {count}; i++) {{
            out[i] = exponential(in[i] - top);
            sum += out[i];
        }}
        for (int i = 0; i < {count}; i++) {{
            out[i] = out[i] / sum;
        }}
    }}
}}
"""

_FOOT = """\
void {name}_reset(void *arena)
{{
    (void)arena;
}}

void *{name}_input(void *arena, int index)
{{
    static const uint32_t offsets[] = {{{input_offsets}}};
    return (uint8_t *)arena + offsets[index];
}}

const void *{name}_output(const void *arena, int index)
{{
    static const uint32_t offsets[] = {{{output_offsets}}};
    return (const uint8_t *)arena + offsets[index];
}}

int {name}_invoke(void *arena)
{{
    uint8_t *bytes = arena;
{body}
    return 0;
}}

{tensors}
const struct intaglio_model {name}_model = {{
    .abi_version = INTAGLIO_ABI_VERSION,
    .arena_bytes = {macro}_ARENA_BYTES,
    .layer_count = {layers},
    .input_count = {inputs},
    .output_count = {outputs},
    .name = "{name}",
    .inputs = inputs,
    .outputs = outputs,
    .reset = {name}_reset,
    .input = {name}_input,
    .invoke = {name}_invoke,
    .output = {name}_output,
}};
"""

_HEADER = """\
#ifndef {macro}_H
#define {macro}_H
#include <stdint.h>
{abi}
#define {macro}_ARENA_BYTES {arena}
void {name}_reset(void *arena);
void *{name}_input(void *arena, int index);
int {name}_invoke(void *arena);
const void *{name}_output(const void *arena, int index);
extern const struct intaglio_model {name}_model;
#endif
"""


def write_baseline(net: FloatNet, out: Path, name: str) -> Path:
    """Write `NAME.h` and `NAME.c` of a network to the folder `out`.

    Returns:
        the folder, to be run like a generated library.
    """
    out.mkdir(parents=True, exist_ok=True)
    memory = _Memory(net)
    parts = [_HEAD.format(name=name)]
    if any(layer.kind == "softmax" for layer in net.layers):
        parts.append(_EXPONENTIAL)
    body: list[str] = [f"    {line}" for port in net.inputs for line in _dequantise(port, memory)]
    for number, layer in enumerate(net.layers):
        if layer.kind == "reshape":
            continue
        parts += _constants(layer, number)
        parts.append(_function(layer, number, net.shapes))
        arguments = ", ".join(memory.floats(tensor) for tensor in (*layer.inputs, layer.output))
        body.append(f"    layer_{number}({arguments});")
    body += [f"    {line}" for port in net.outputs for line in _quantise(port, memory)]
    macro = name.upper()
    parts.append(
        _FOOT.format(
            name=name,
            macro=macro,
            body="\n".join(body),
            layers=len(net.layers),
            inputs=len(net.inputs),
            outputs=len(net.outputs),
            tensors=_tensors("input", net.inputs) + _tensors("output", net.outputs),
            input_offsets=", ".join(str(memory.port[p.tensor]) for p in net.inputs),
            output_offsets=", ".join(str(memory.port[p.tensor]) for p in net.outputs),
        )
    )
    abi = (Path(intaglio.codegen.__file__).parent / "templates" / "abi.h.j2").read_text(encoding="utf-8")
    header = _HEADER.format(macro=macro, name=name, abi=abi, arena=memory.total)
    (out / f"{name}.h").write_text(header, encoding="utf-8")
    (out / f"{name}.c").write_text("\n".join(parts), encoding="utf-8")
    return out


class _Memory:
    """Byte offsets: each tensor gets the lowest place that is free while it lives; ports come first."""

    def __init__(self, net: FloatNet) -> None:
        self.offset: dict[int, int] = {}
        self.port: dict[int, int] = {}
        self.alias: dict[int, int] = {}
        at = 0
        for port in (*net.inputs, *net.outputs):
            self.port[port.tensor] = at
            at += -(-prod(port.shape) * (2 if port.dtype == "int16" else 1) // 8) * 8
        base = self.total = at
        for layer in net.layers:
            if layer.kind == "reshape":
                self.alias[layer.output] = self.root(layer.inputs[0])
        end = {self.root(t): n for n, layer in enumerate(net.layers) for t in (*layer.inputs, layer.output)}
        end |= {self.root(port.tensor): len(net.layers) for port in net.outputs}
        live: dict[int, tuple[int, int]] = {}

        def place(tensor: int, now: int) -> None:
            for other in [t for t in live if end[t] < now]:
                del live[other]
            size, start = 4 * prod(net.shapes[tensor]), base
            for low, high in sorted(live.values()):
                if start + size > low and high > start:
                    start = high
            live[tensor] = (start, start + size)
            self.offset[tensor] = start
            self.total = max(self.total, -(-(start + size) // 8) * 8)

        for port in net.inputs:
            place(self.root(port.tensor), 0)
        for number, layer in enumerate(net.layers):
            if layer.kind != "reshape":
                place(self.root(layer.output), number)

    def root(self, tensor: int) -> int:
        while tensor in self.alias:
            tensor = self.alias[tensor]
        return tensor

    def floats(self, tensor: int) -> str:
        return f"(float *)(void *)(bytes + {self.offset[self.root(tensor)]})"


def _dequantise(port: Port, memory: _Memory) -> list[str]:
    source = f"(const {port.dtype}_t *)(const void *)(bytes + {memory.port[port.tensor]})"
    return [
        f"for (int i = 0; i < {prod(port.shape)}; i++) {{",
        f"    ({memory.floats(port.tensor)})[i] = {_float(port.scale)} * (float)(({source})[i] - ({port.zero_point}));",
        "}",
    ]


def _quantise(port: Port, memory: _Memory) -> list[str]:
    low, high = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}[port.dtype]
    target = f"({port.dtype}_t *)(void *)(bytes + {memory.port[port.tensor]})"
    value = f"({memory.floats(port.tensor)})[i] * {_float(1 / port.scale)} + {_float(port.zero_point)}"
    return [
        f"for (int i = 0; i < {prod(port.shape)}; i++) {{",
        f"    ({target})[i] =",
        f"        ({port.dtype}_t)nearest(to_range({value}, {_float(low)}, {_float(high)}));",
        "}",
    ]


def _float(value: float) -> str:
    text = f"{value:.9g}"
    return f"{text}f" if any(c in text for c in ".en") else f"{text}.0f"


def _constants(layer: Layer, number: int) -> list[str]:
    parts = []
    for prefix, values in (("w", layer.weights), ("b", layer.bias)):
        if values is not None:
            parts.append(_array(f"{prefix}{number}", values))
    return parts


def _array(name: str, values: Floats) -> str:
    numbers = [_float(float(v)) for v in values.ravel()]
    rows = [", ".join(numbers[i : i + 8]) for i in range(0, len(numbers), 8)]
    return f"static const float {name}[{len(numbers)}] = {{\n    " + ",\n    ".join(rows) + ",\n};\n"


def _result(layer: Layer, value: str) -> str:
    low, high = layer.bounds
    if low is not None and high is not None:
        return f"to_range({value}, {_float(low)}, {_float(high)})"
    if low is not None:
        return f"{value} < {_float(low)} ? {_float(low)} : {value}"
    return value


def _function(layer: Layer, number: int, shapes: dict[int, Shape]) -> str:
    x, y = shapes[layer.inputs[0]], shapes[layer.output]
    bias = f"b{number}[{'o' if layer.kind == 'dense' else 'oc'}]" if layer.bias is not None else "0.0f"
    if layer.kind == "dense":
        assert layer.weights is not None
        oc, ic = layer.weights.shape
        return _DENSE.format(n=number, rows=prod(x) // ic, oc=oc, ic=ic, bias=bias, result=_result(layer, "sum"))
    if layer.kind == "add":
        return _ADD.format(n=number, count=prod(y), result=_result(layer, "sum"))
    if layer.kind == "softmax":
        return _SOFTMAX.format(n=number, rows=prod(y[:-1]), count=y[-1])
    inner = {"conv": _CONV_INNER, "depthwise": _DEPTHWISE_INNER, "average": _AVERAGE_INNER}[layer.kind]
    average = layer.kind == "average"
    sizes = {
        "n": number,
        "ih": x[1],
        "iw": x[2],
        "ic": x[3],
        "oh": y[1],
        "ow": y[2],
        "oc": y[3],
        "mult": y[3] // x[3],
        "kh": layer.window[0],
        "kw": layer.window[1],
        "sh": layer.stride[0],
        "sw": layer.stride[1],
        "dh": layer.dilation[0],
        "dw": layer.dilation[1],
        "pt": layer.pads[0],
        "pl": layer.pads[1],
    }
    return _CONV.format(
        **sizes,
        bias=f"{bias};\n                int32_t taps = 0" if average else bias,
        inner=inner.format(**sizes),
        result=_result(layer, "sum / (float)taps") if average else _result(layer, "sum"),
    )


def _tensors(kind: str, ports: tuple[Port, ...]) -> str:
    shapes, rows = [], []
    for index, port in enumerate(ports):
        dims = ", ".join(map(str, port.shape))
        size = prod(port.shape) * (2 if port.dtype == "int16" else 1)
        shapes.append(f"static const int32_t {kind}_{index}_shape[] = {{{dims}}};\n")
        rows.append(
            f'    {{.name = "{kind}{index}", .shape = {kind}_{index}_shape, .bytes = {size}u,'
            f" .dtype = INTAGLIO_{port.dtype.upper()}, .rank = {len(port.shape)}}},\n"
        )
    return "".join(shapes) + f"static const struct intaglio_tensor {kind}s[] = {{\n{''.join(rows)}}};\n\n"
