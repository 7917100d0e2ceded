"""Everything that becomes C text from data: identifiers, literals, array bodies, comments."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer.ir import DType

_KEYWORDS = frozenset(
    """auto break case char const continue default do double else enum extern float for goto if inline int long
    register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
    bool true false class delete namespace new operator private protected public template this throw try using
    virtual main asm""".split()  # noqa: SIM905
)

CTYPES = {
    DType.INT8: "int8_t",
    DType.UINT8: "uint8_t",
    DType.INT16: "int16_t",
    DType.UINT16: "uint16_t",
    DType.INT32: "int32_t",
    DType.UINT32: "uint32_t",
    DType.INT64: "int64_t",
    DType.BOOL: "uint8_t",
}


def identifier(text: str, fallback: str = "model") -> str:
    """Make a C (and C++) identifier of any text: ASCII, no leading digit or underscore, no keyword."""
    name = re.sub(r"[^0-9A-Za-z]+", "_", text).strip("_")
    if not name:
        name = fallback
    if name[0].isdigit():
        name = f"m{name}"
    return f"{name}_" if name in _KEYWORDS else name


def brief(name: str) -> str:
    """Layers' names, or text with them, as people read them.

    Where TFLite's converter fuses operators it strings their names together, `a/Relu;a/BiasAdd;a/Conv2D`: the first.
    """
    return re.sub(r";[^ ']*", "", name)


def short(name: str) -> str:
    """What tells a layer from the others: the last two steps of its path."""
    return "/".join(brief(name).split("/")[-2:])


def layer_identifier(name: str) -> str:
    """Make the part of an identifier that says which layer."""
    return identifier(short(name)[-40:], "layer")


def comment(text: str) -> str:
    """Make text safe inside a C comment: printable ASCII, no comment delimiters, no line continuation."""
    safe = "".join(c if " " <= c <= "~" else "?" for c in text)
    return safe.replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")


def string(text: str) -> str:
    """A C string literal, bytes outside printable ASCII as octal escapes."""
    body = "".join(chr(b) if 0x20 <= b < 0x7F and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode())
    return f'"{body}"'


def integer(value: int, ctype: str = "int32_t") -> str:
    """A C integer constant expression of the given type that no compiler warns about."""
    value = int(value)
    if ctype == "int64_t":
        return "INT64_MIN" if value == -(2**63) else f"INT64_C({value})"
    if value == -(2**31):
        return "INT32_MIN"
    return f"{value}u" if ctype == "uint32_t" else str(value)


def wrapped(text: str, width: int = 120) -> str:
    """Break lines of C that are too long behind commas."""
    result = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        head, *rest = line.split(", ")
        for part in rest:
            if len(head) + len(part) + 3 > width:
                result.append(f"{head},")
                head = indent + part
            else:
                head = f"{head}, {part}"
        result.append(head)
    return "\n".join(result)


def plus(value: int) -> str:
    """A summand as it is written: " + 3", " - 3", and nothing for 0."""
    return "" if value == 0 else f" + {value}" if value > 0 else f" - {-value}"


def initialiser(array: NDArray[Any], ctype: str, indent: str = "    ", width: int = 100) -> str:
    """The lines between the braces of an array's initialiser."""
    items = [integer(v, ctype) for v in np.asarray(array).ravel().tolist()]
    lines: list[str] = []
    line = indent
    for item in items:
        if len(line) + len(item) + 2 > width:
            lines.append(line.rstrip())
            line = indent
        line += item + ", "
    lines.append(line.rstrip())
    return "\n".join(lines)


def snake(name: str) -> str:
    """Conv2D -> conv2d, FullyConnected -> fully_connected."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name).lower()
