"""Serves one text over HTTP on the loopback: what Prometheus scrapes.

HTTP/1.1 as far as a scraper needs it: GET and HEAD of one path, a bounded head, a bounded
time, one request a connection. Anything else gets the status that says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

__all__ = ["MetricServer"]

_HEAD_LIMIT = 8 * 1024
_TIMEOUT_S = 5.0
_MAX_CONNECTIONS = 16
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class MetricServer:
    """Answers GET /metrics.

    Args:
        render: Gives the text.
        content_type: Its media type.
    """

    def __init__(self, render: Callable[[], Awaitable[str]], content_type: str) -> None:
        self._render = render
        self._content_type = content_type
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.requests = 0

    @property
    def port(self) -> int:
        """The port it listens on; 0: it does not."""
        if self._server is None or not self._server.sockets:
            return 0
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port.

        Raises:
            OSError: As the system says it.
        """
        self._server = await asyncio.start_server(
            self._connected, host, port, limit=_HEAD_LIMIT, backlog=_MAX_CONNECTIONS
        )
        return self.port

    async def close(self) -> None:
        """Listen no more; what is being answered is cut off."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in list(self._open):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._open, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError, TimeoutError):
                async with asyncio.timeout(_TIMEOUT_S):
                    await self._serve(reader, writer)
        finally:
            self._open.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        status, method, body = 200, "", ""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, path = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")[:2]
        except asyncio.LimitOverrunError:
            status = 431
        except (asyncio.IncompleteReadError, ValueError):
            status = 400
        else:
            if len(self._open) > _MAX_CONNECTIONS:
                status = 503
            elif method not in {"GET", "HEAD"}:
                status = 405
            elif path.split("?", 1)[0] != "/metrics":
                status = 404
        if status == 200:
            try:
                body = await self._render()
                self.requests += 1
            except Exception:  # the boundary to a scraper: it gets a status, never a hang
                status = 500
        kind = self._content_type
        if status != 200:
            body, kind = f"{status} {_REASONS[status]}\n", "text/plain; charset=utf-8"
        data = body.encode()
        allow = "Allow: GET, HEAD\r\n" if status == 405 else ""
        writer.write(
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(data)}\r\n{allow}Connection: close\r\n\r\n".encode("latin-1")
        )
        if method != "HEAD":
            writer.write(data)
        await writer.drain()
