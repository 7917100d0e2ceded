"""PlatformIO's view of the boards: what a board is stands in `boards/*.toml`; nothing is downloaded."""

from platformio.platform.base import PlatformBase


class IntaglioPlatform(PlatformBase):
    """A development platform without packages: the compiler is the system's."""
