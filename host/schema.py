"""Maps that a CDDL file describes: CBOR with integer keys on the wire, dicts with names in Python.

zcbor validates both ways against the same file from which it generates the codec of the device. The file is
also read line by line here, for the names of the keys, the order of the fields and the comments of the
reference page; `protocol.cddl` and `package.cddl` keep to one field a line for that.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

CDDL = Path(__file__).with_name("protocol.cddl")

_KEY = re.compile(r"^(\w+) = (\d+)$")
_RULE = re.compile(r"^([\w-]+) = \{(\})?$")
_FIELD = re.compile(r"^    (\"?\w+\"?) => ([^;]*?),\s*(?:; (.*))?$")
_ARRAY = re.compile(r"^\[\d+\*\d+ (\w+)\]$")
_ALIAS = re.compile(r"^([\w-]+) = ([^{\d].*)$")
_MOST_ITEMS = 16  # zcbor wants a bound for `*`; every array here states its own
_LONGEST_REASON = 160  # characters; zcbor quotes whole messages

Message = dict[str, Any]


class MessageError(ValueError):
    """Bytes or a dict that are not the message they should be."""


@dataclass(frozen=True)
class Field:
    """One key of a map: its name, its number (None: the key is the text itself), CDDL type and comment."""

    name: str
    key: int | None
    type: str
    comment: str


@dataclass(frozen=True)
class Rule:
    """One map of the CDDL file, its fields in the order of the wire."""

    name: str
    doc: str
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Schema:
    """The CDDL file as read.

    Attributes:
        preamble: the comment at the head of the file.
        aliases: name and definition of the types that are not maps, in order.
        keys: number of each key.
        rules: the maps by name.
        path: the file.
    """

    preamble: str
    aliases: tuple[tuple[str, str], ...]
    keys: dict[str, int]
    rules: dict[str, Rule]
    path: Path

    def encode(self, rule: str, values: Message) -> bytes:
        """One map as CBOR.

        Raises:
            MessageError: the values are not those of the rule.
        """
        import cbor2

        wire = self._to_wire(self._rule(rule), values)
        self._validate(rule, wire)
        return cbor2.dumps(wire)

    def decode(self, rule: str, data: bytes) -> Message:
        """The map that `data` is, keys by name. Any bytes may be given.

        Raises:
            MessageError: `data` is not one CBOR item, or the rule does not describe it.
        """
        import cbor2

        stream = io.BytesIO(data)
        try:
            wire = cbor2.CBORDecoder(stream).decode()
        except Exception as error:  # the decoder raises what its tags' constructors raise, too
            raise MessageError(f"not CBOR: {_line(error)}") from None
        if stream.tell() != len(data):
            raise MessageError(f"{len(data) - stream.tell()} bytes behind the CBOR item")
        self._validate(rule, wire)
        return self._to_names(self._rule(rule), wire)

    def _rule(self, name: str) -> Rule:
        try:
            return self.rules[name]
        except KeyError:
            raise MessageError(f"{self.path.name} has no map {name}") from None

    def _to_wire(self, rule: Rule, values: Message) -> dict[int | str, Any]:
        unknown = values.keys() - {field.name for field in rule.fields}
        missing = [field.name for field in rule.fields if field.name not in values]
        if unknown or missing:
            raise MessageError(f"{rule.name}: unknown keys {sorted(unknown)}, missing keys {missing}")
        return {
            field.name if field.key is None else field.key: self._nested(field, values[field.name], self._to_wire)
            for field in rule.fields
        }

    def _nested(self, field: Field, value: Any, turn: Callable[[Rule, Any], Any]) -> Any:
        """Turn what a field holds, where that is a map or an array of maps."""
        if field.type in self.rules:
            return turn(self.rules[field.type], value)
        if (array := _ARRAY.match(field.type)) and array[1] in self.rules:
            return [turn(self.rules[array[1]], item) for item in value]
        return value

    def _to_names(self, rule: Rule, wire: dict[int | str, Any]) -> Message:
        named = {}
        for field in rule.fields:
            value = self._nested(field, wire[field.name if field.key is None else field.key], self._to_names)
            # zcbor's Python side, unlike its C, takes a negative integer for a uint
            if field.type in ("u8", "u16", "u32", "u64") and value < 0:
                raise MessageError(f"{rule.name}: {field.name} is negative")
            named[field.name] = value
        return named

    def _validate(self, rule: str, wire: object) -> None:
        noise = io.StringIO()  # zcbor prints what it raises
        try:
            with contextlib.redirect_stdout(noise):
                _translators(self.path)[rule].validate_obj(wire)
        except Exception as error:  # CddlValidationError, and what odd types make it raise
            raise MessageError(f"not a {rule}: {_line(error)}") from None


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."


@cache
def load_schema(path: Path = CDDL) -> Schema:
    """Reads a CDDL file, `protocol.cddl` when not given; cached."""
    lines = path.read_text(encoding="utf-8").splitlines()
    keys = {match[1]: int(match[2]) for line in lines if (match := _KEY.match(line))}
    rules: dict[str, Rule] = {}
    aliases: list[tuple[str, str]] = []
    comment: list[str] = []
    preamble = ""
    name, doc = "", ""
    fields: list[Field] = []
    for line in lines:
        if line.startswith(";"):
            comment.append(line[1:].strip())
        elif match := _RULE.match(line):
            name, doc, fields, comment = match[1], " ".join(comment), [], []
            if match[2]:
                rules[name] = Rule(name, doc, ())
        elif match := _FIELD.match(line):
            key = None if match[1].startswith('"') else keys[match[1]]
            fields.append(Field(match[1].strip('"'), key, match[2], match[3] or ""))
        elif line == "}":
            rules[name] = Rule(name, doc, tuple(fields))
        elif match := _ALIAS.match(line):
            aliases.append((match[1], match[2]))
        else:
            preamble = preamble or "\n".join(comment)
            comment = []
    return Schema(preamble, tuple(aliases), keys, rules, path)


@cache
def _translators(path: Path) -> dict[str, Any]:
    import zcbor

    prelude = Path(zcbor.__file__).parent / "zcbor" / "prelude.cddl"
    text = prelude.read_text(encoding="utf-8") + path.read_text(encoding="utf-8")
    types: dict[str, Any] = zcbor.DataTranslator.from_cddl(text, _MOST_ITEMS).my_types
    return types
