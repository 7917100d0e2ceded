"""Frames on a serial line: COBS(message + CRC-32) + 0x00.

COBS is Cheshire and Baker, "Consistent Overhead Byte Stuffing" (SIGCOMM 1997); the CRC is that of zlib
(polynomial 0x04C11DB7 reflected, as in IEEE 802.3), four bytes little-endian. A frame without bytes is no
frame: a sender may put a 0x00 before a frame to end whatever noise came before it.
"""

from __future__ import annotations

import zlib

from cobs import cobs

DELIMITER = b"\x00"
CRC_BYTES = 4


def encode_frame(message: bytes) -> bytes:
    """The bytes on the line for one message, the delimiter included."""
    crc = zlib.crc32(message).to_bytes(CRC_BYTES, "little")
    return bytes(cobs.encode(message + crc)) + DELIMITER


def encoded_bytes(message_bytes: int) -> int:
    """The most bytes that `encode_frame` makes of a message of `message_bytes` bytes."""
    body = message_bytes + CRC_BYTES
    return body + body // 254 + 1 + len(DELIMITER)


class FrameReader:
    """Cuts a stream of bytes into messages; what is damaged is dropped and counted.

    Args:
        longest: bytes of the longest message, CRC included; a longer frame is dropped as a whole, so that a
            line that never sends a delimiter takes no memory.

    Attributes:
        bad: frames dropped because their COBS or CRC was wrong.
        oversize: frames dropped because they were longer than `longest`.
    """

    def __init__(self, longest: int = 1 << 16) -> None:
        self._limit = encoded_bytes(longest)
        self._pending = bytearray()
        self._skipping = False
        self.bad = 0
        self.oversize = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Takes in `data` and returns the messages that it completes, CRC removed."""
        messages = []
        *complete, rest = data.split(DELIMITER)
        for piece in complete:
            self._take(piece)
            message = self._finish()
            if message is not None:
                messages.append(message)
        self._take(rest)
        return messages

    def _take(self, piece: bytes) -> None:
        if self._skipping:
            return
        self._pending += piece
        if len(self._pending) > self._limit:
            self._pending.clear()
            self._skipping = True

    def _finish(self) -> bytes | None:
        frame, self._pending = bytes(self._pending), bytearray()
        if self._skipping:
            self._skipping = False
            self.oversize += 1
            return None
        if not frame:
            return None
        try:
            body = bytes(cobs.decode(frame))
        except cobs.DecodeError:
            self.bad += 1
            return None
        message, crc = body[:-CRC_BYTES], body[-CRC_BYTES:]
        if len(body) < CRC_BYTES or zlib.crc32(message).to_bytes(CRC_BYTES, "little") != crc:
            self.bad += 1
            return None
        return message
