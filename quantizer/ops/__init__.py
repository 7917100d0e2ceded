"""One module per operator. A new module in this folder is found by itself: nothing else lists them."""

from __future__ import annotations

import importlib
import pkgutil
from difflib import get_close_matches
from functools import cache
from typing import Any

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.ops.base import REGISTRY, Operator


@cache
def registry() -> dict[str, Operator[Any, Any]]:
    """Import every module of this folder and return the operators by name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(REGISTRY.operators.items()))


def operator(name: str, where: str = "") -> Operator[Any, Any]:
    """Return an operator by its name.

    Raises:
        UnsupportedError: there is none; names the nearest.
    """
    found = registry().get(name)
    if found is None:
        near = ", ".join(get_close_matches(name, registry(), 3, 0.5)) or "see docs/operators.md"
        raise UnsupportedError(where or name, f"operator {name} is not supported", f"nearest: {near}")
    return found
