"""One serial line for several: what comes from it goes to all, what any of them sends goes to it."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading

READ_BYTES = 4096


class SharedLine:
    """Offers a connected socket as a pseudo-terminal and as a TCP port on the loopback interface, at once.

    Like a serial line it has no flow control towards its listeners: who does not read loses bytes. A thread
    relays until `close`, or until the socket's other end goes away.

    Args:
        line: the socket; closed with the relay.

    Attributes:
        pty_path: of the pseudo-terminal.
        address: `socket://127.0.0.1:PORT`.
    """

    def __init__(self, line: socket.socket) -> None:
        import tty

        self._line = line
        self._line.setblocking(False)
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.setblocking(False)
        self._clients: list[socket.socket] = []
        self._pending = b""
        self._wake_read, self._wake_write = os.pipe()
        # The slave stays open here, so that the terminal outlives whoever opens and closes it.
        self.pty_path = os.ttyname(self._slave)
        self.address = f"socket://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._relay, name="shared line", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop relaying and close everything."""
        os.write(self._wake_write, b"x")
        self._thread.join()
        for connection in (self._line, self._server, *self._clients):
            connection.close()
        for descriptor in (self._master, self._slave, self._wake_read, self._wake_write):
            os.close(descriptor)

    def _relay(self) -> None:
        while True:
            # Nothing is taken from the senders while the line has not taken what they sent before.
            senders: list[int | socket.socket] = [] if self._pending else [self._master, *self._clients]
            watched: list[int | socket.socket] = [self._wake_read, self._line, self._server, *senders]
            ready, writable, _ = select.select(watched, [self._line] if self._pending else [], [])
            if self._wake_read in ready:
                return
            try:
                if writable:
                    self._pending = self._pending[self._line.send(self._pending) :]
                if self._line in ready and not self._deliver():
                    return
            except ConnectionError:
                return
            if self._server in ready:
                with contextlib.suppress(OSError):
                    self._accept()
            for sender in senders:
                if sender in ready:
                    self._pending += self._take(sender)

    def _deliver(self) -> bool:
        """From the line to all; False at its end."""
        data = self._line.recv(READ_BYTES)
        with contextlib.suppress(BlockingIOError):
            os.write(self._master, data)
        for client in tuple(self._clients):
            try:
                client.send(data)
            except BlockingIOError:
                continue
            except OSError:
                self._drop(client)
        return bool(data)

    def _take(self, sender: int | socket.socket) -> bytes:
        """What one of them sends; b"" when there is nothing, or no more."""
        try:
            if isinstance(sender, int):
                return os.read(sender, READ_BYTES)
            data = sender.recv(READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            if isinstance(sender, int) and error.errno != errno.EIO:
                raise
            data = b""
        if not data and isinstance(sender, socket.socket):
            self._drop(sender)
        return data

    def _accept(self) -> None:
        client, _ = self._server.accept()
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clients.append(client)

    def _drop(self, client: socket.socket) -> None:
        self._clients.remove(client)
        client.close()
