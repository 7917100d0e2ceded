"""Names of fleets, device types, devices, gateways and workers, and how an unknown one is answered."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from intaglio.quantizer.errors import IdentityError, UsageError

LONGEST = 48
"""A common name holds 64 characters (RFC 5280, appendix A.1), kind and colon included."""

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST - 1}}}\Z")
_ID = re.compile(r"(?:[0-9a-f]{2}){1,32}\Z")


def check_name(what: str, name: str) -> str:
    """The name, when it can stand in a topic, a certificate and a file name: no `+ # / $`, space or control character.

    Raises:
        UsageError: it cannot.
    """
    if not _NAME.match(name):
        hint = f"use up to {LONGEST} letters, digits, dots, dashes, underscores; a letter or digit first"
        raise UsageError(f"{what} {name!r}", "is not a name", hint)
    return name


def check_chip_id(text: str) -> str:
    """A chip's unique id as hello gives it: 1 to 32 bytes as lower-case hexadecimal digits.

    Raises:
        UsageError: it is something else.
    """
    digits = text.lower()
    if not _ID.match(digits):
        hint = "give 2 to 64 hexadecimal digits, two for each byte"
        raise UsageError(f"id {text!r}", "is not the unique id of a chip", hint)
    return digits


def unknown(what: str, name: str, known: Iterable[str], make: str) -> IdentityError:
    """The error for a name that does not exist: the nearest ones, or the command that makes one.

    Args:
        what: fleet, device type, ...
        make: the command that makes one.
    """
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"make one: {make}"
    return IdentityError(f"{what} {name!r}", f"there is no such {what}", hint)


def taken(what: str, name: str, hint: str = "choose another name") -> IdentityError:
    """The error for a name that exists already."""
    return IdentityError(f"{what} {name!r}", "exists already", hint)
