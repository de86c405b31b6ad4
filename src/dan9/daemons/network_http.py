"""Whole HTTP requests, on httpx, through the same policy as every other connection.

httpx is imported on the first request (it costs some 170 ms). Its connections are opened by a
backend of ours: the name is resolved by the daemon, every address checked, and the checked
address connected to. That holds for each redirect too, since a redirect opens a connection
like any other. The host's name stays what TLS verifies and what the request says.

No environment variable and no netrc file changes what is sent: a daemon's behaviour is its
configuration.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import httpcore
import httpx

from dan9.base.errors import BadPayload, Closed, Dan9Error, TlsFailed, Unreachable
from dan9.daemons.network_wires import WaitedTooLong, refusal

__all__ = ["Browser", "Page"]

Resolve = Callable[[str, int], Awaitable[tuple[str, ...]]]
"""Host and port to checked addresses; raises NotAllowed or Unreachable."""

REDIRECTS: Final = 20
PIECE: Final = 65_536


@dataclass(frozen=True, slots=True)
class Page:
    """A whole answer."""

    status: int
    reason: str
    url: str
    version: str
    headers: dict[str, str]
    content: bytes
    charset: str | None
    redirects: list[str]


class Browser:
    """An HTTP client with kept-alive connections.

    Args:
        resolve: Resolves a name and checks every address.
        context: What TLS connections are verified by.
        connections: How many may be open at once.
    """

    def __init__(self, resolve: Resolve, context: ssl.SSLContext, connections: int) -> None:
        pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=connections,
            max_keepalive_connections=min(20, connections),
            keepalive_expiry=5.0,
            http1=True,
            network_backend=_CheckedBackend(resolve),
        )
        self._client = httpx.AsyncClient(
            transport=_Transport(pool), trust_env=False, max_redirects=REDIRECTS
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None,
        body: bytes | None,
        timeout_s: float | None,
        follow_redirects: bool,
        max_bytes: int,
    ) -> Page:
        """Send one request and return the whole answer; any status is an answer.

        Raises:
            BadPayload: The URL or a header is none, or the answer exceeds `max_bytes`.
            NotAllowed: The policy forbids the host, or one that it redirects to.
            ConnectionRefused, Unreachable, Closed, TlsFailed, TimedOut: As `connect` does.
        """
        asked = self._asked(method, url, headers, body, timeout_s)
        try:
            # A task of its own: anyio, beneath, keeps its cancel scopes by asyncio's task.
            return await asyncio.create_task(self._fetch(asked, follow_redirects, max_bytes))
        except Exception as error:
            refused = _refusal(error, method, url)
            if refused is error:
                raise
            raise refused from error

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.create_task(self._client.aclose())

    def _asked(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None,
        body: bytes | None,
        timeout_s: float | None,
    ) -> httpx.Request:
        try:
            asked = self._client.build_request(
                method.upper(), url, headers=headers, content=body, timeout=timeout_s
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise BadPayload(
                f"{method} {url!r}: {error}", at="payload.url", hint="http://host:port/path"
            ) from error
        if asked.url.scheme not in {"http", "https"} or not asked.url.host:
            raise BadPayload(f"{url!r} is no http URL", at="payload.url", hint="http or https")
        return asked

    async def _fetch(self, asked: httpx.Request, follow_redirects: bool, max_bytes: int) -> Page:
        answer = await self._client.send(asked, stream=True, follow_redirects=follow_redirects)
        try:
            content = await _read(answer, max_bytes)
        finally:
            await answer.aclose()
        return Page(
            status=answer.status_code,
            reason=answer.reason_phrase,
            url=str(answer.url),
            version=answer.http_version,
            headers=dict(answer.headers),
            content=content,
            charset=answer.charset_encoding,
            redirects=[str(step.url) for step in answer.history],
        )


async def _read(answer: httpx.Response, most: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in answer.aiter_bytes(PIECE):
        size += len(piece)
        if size > most:
            raise BadPayload(
                f"{answer.url} answers with more than {most} bytes",
                at="payload.max-bytes",
                hint="raise max-bytes",
            )
        pieces.append(piece)
    return b"".join(pieces)


def _refusal(error: Exception, method: str, url: str) -> Exception:
    """Return the refusal for what httpx or httpcore raised; others as they are."""
    doing = f"{method.upper()} {url}"
    # A refusal of ours comes back as the cause of whatever the libraries made of it.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Dan9Error):
            return cause
        if isinstance(cause, ssl.SSLError):
            return refusal(cause, doing)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, (httpx.TimeoutException, httpcore.TimeoutException, TimeoutError)):
        return WaitedTooLong(f"{doing}: no answer in time", hint="timeout=… waits longer")
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
        return BadPayload(
            f"{url!r}: {error}", at="payload.url", hint="http://host:port/path, or https"
        )
    if isinstance(error, httpcore.UnsupportedProtocol):
        return BadPayload(f"{url!r}: {error}", at="payload.url", hint="http or https")
    if isinstance(error, httpx.TooManyRedirects):
        return Unreachable(f"{doing}: more than {REDIRECTS} redirects")
    if isinstance(error, (httpcore.LocalProtocolError, httpx.LocalProtocolError, ValueError)):
        return BadPayload(f"{doing}: {error}", at="payload", hint="is a header or the method off?")
    if isinstance(error, (httpcore.ProtocolError, httpx.ProtocolError)):
        return Closed(f"{doing}: {error}", hint="the server speaks no HTTP, or broke off")
    if isinstance(error, (httpcore.NetworkError, httpx.NetworkError)):
        return Closed(f"{doing}: {str(error) or 'the connection broke'}")
    return refusal(error, doing) if isinstance(error, OSError) else error


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections to checked addresses only."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._plain = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._resolve(host, port)
        for last, address in enumerate(addresses, 1 - len(addresses)):
            try:
                stream = await self._plain.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except httpcore.ConnectError as error:
                if last == 0:
                    raise _connect_refusal(error, host, address, port) from error
            else:
                return _CheckedStream(stream)
        raise Unreachable(f"{host} has no address")

    async def sleep(self, seconds: float) -> None:
        await self._plain.sleep(seconds)


def _connect_refusal(error: BaseException, host: str, address: str, port: int) -> Dan9Error:
    where = host if host == address else f"{host} ({address})"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return refusal(cause, f"connecting to {where} port {port}")
        cause = cause.__cause__ or cause.__context__
    return Unreachable(f"connecting to {where} port {port}: {error}")


class _CheckedStream(httpcore.AsyncNetworkStream):
    """A stream whose failed TLS handshake says why."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            return await self._inner.start_tls(ssl_context, server_hostname, timeout)
        except httpcore.ConnectError as error:
            raise TlsFailed(
                f"TLS with {server_hostname}: {error}",
                hint="cafile=… names the authority to trust",
            ) from error

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Transport(httpx.AsyncBaseTransport):
    """httpx over a pool of ours; httpx's own transport takes no backend."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=url,
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=_Body(answer),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._answer.aiter_stream():
            yield piece

    async def aclose(self) -> None:
        await self._answer.aclose()
