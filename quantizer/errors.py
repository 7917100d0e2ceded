"""The exception tree.

    IntaglioError                    anything that the user can put right
     +- ModelError                   the model file: truncated, malformed, not a model
     |   +- UnsupportedError         valid, but outside the stated limits of an operator or frontend
     +- GraphError                   a graph breaks an invariant (the verifier names the pass)
     +- CalibrationError             calibration data: wrong shape, empty, NaN
     +- ProofError                   an accumulator or requantisation cannot be proven exact
     +- CodegenError                 the C library cannot be generated
     |   +- DoesNotFitError          larger than the board's flash or RAM
     +- OutputError                  the output folder: not writable, or it holds somebody's files
     +- BoardError                   unknown or invalid board
     +- ToolError                    a compiler, emulator or probe failed
     |   +- MissingToolError         it is not installed
     +- LinkError                    the line to a device: busy, unplugged, garbage
     +- StoreError                   the capture store
     +- PackageError                 a package, a signing key or the artefact store
     +- IdentityError                a fleet's registry, certificate authority or certificates
     +- UsageError                   the call itself is wrong (exit status 2)

Every message is one line: where (file, node, byte), what is wrong, and, as `hint`, what to do.
"""

from __future__ import annotations


class IntaglioError(Exception):
    """An error that the user can put right.

    Args:
        where: the file, node, board, port or byte that the message is about.
        what: what is wrong there.
        hint: what to do about it.
    """

    exit_status = 1

    def __init__(self, where: str, what: str, hint: str) -> None:
        self.where = where
        self.what = what
        self.hint = hint
        super().__init__(f"{where}: {what}; {hint}")

    def __str__(self) -> str:
        return " ".join(f"{self.where}: {self.what}; {self.hint}".split())


class ModelError(IntaglioError):
    """The model file is truncated, malformed or not a model."""


class UnsupportedError(ModelError):
    """The model is valid but outside a stated limit."""


class GraphError(IntaglioError):
    """A graph breaks an invariant of `quantizer.ir.verify`."""


class CalibrationError(IntaglioError):
    """Calibration data have the wrong shape, are empty or are not finite."""


class ProofError(IntaglioError):
    """An accumulator's interval or a requantisation cannot be proven exact."""


class CodegenError(IntaglioError):
    """The C library cannot be generated."""


class DoesNotFitError(CodegenError):
    """The library is larger than the board's flash or RAM."""


class OutputError(IntaglioError):
    """The output folder is not writable or holds files that are not ours."""


class BoardError(IntaglioError):
    """A board is unknown or its TOML is invalid."""


class ToolError(IntaglioError):
    """A compiler, emulator or probe is missing or failed."""


class MissingToolError(ToolError):
    """A compiler, emulator or probe is not installed; the hint is the command that installs it."""


class LinkError(IntaglioError):
    """A device does not answer, or answers garbage."""


class StoreError(IntaglioError):
    """The capture store cannot be read or written."""


class PackageError(IntaglioError):
    """A package is damaged or not to be trusted, a signing key is unusable, or the artefact store refuses."""


class IdentityError(IntaglioError):
    """A name of a fleet is unknown or taken, or its authority, registry or a certificate is unusable."""


class UsageError(IntaglioError):
    """The call is wrong in itself."""

    exit_status = 2
