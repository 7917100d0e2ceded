"""The Jinja2 environment: C templates that read as C, where a misspelt name fails."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from jinja2 import BytecodeCache, Environment, PackageLoader, StrictUndefined
from jinja2.bccache import Bucket

from intaglio.codegen import cident, realio


class _ProcessCache(BytecodeCache):
    """Translated templates by key, kept for this process: every library has an environment of its own."""

    def __init__(self) -> None:
        self._code: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._code:
            bucket.bytecode_from_string(self._code[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._code[bucket.key] = bucket.bytecode_to_string()


_CACHE = _ProcessCache()


def environment(functions: Mapping[str, Any]) -> Environment:
    """Return an environment for one library.

    Args:
        functions: names that every template, imported ones included, can use: `data`, `require`, `core`, ...
    """
    env = Environment(
        loader=PackageLoader("intaglio.codegen", "templates"),
        bytecode_cache=_CACHE,
        undefined=StrictUndefined,
        autoescape=False,
        line_statement_prefix="%%",
        line_comment_prefix="%#",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters.update(
        product=prod,
        comment=cident.comment,
        brief=cident.brief,
        plus=cident.plus,
        wrapped=cident.wrapped,
        string=cident.string,
        initialiser=cident.initialiser,
        ctype=cident.CTYPES.get,
    )
    env.globals.update(integer=cident.integer, ctype=lambda dtype: cident.CTYPES[dtype], realio=realio, **functions)
    return env
