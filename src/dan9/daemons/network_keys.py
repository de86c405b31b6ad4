"""What some keys of the network's messages mean: TLS options, rules, encodings. Pure."""

from __future__ import annotations

from dan9.base.errors import BadConfig, BadPayload
from dan9.daemons.network_policy import Rule
from dan9.daemons.network_wires import Tls

__all__ = ["body_of", "client_tls", "rules_of", "server_tls"]


def client_tls(
    tls: bool,
    cafile: str | None,
    certfile: str | None,
    keyfile: str | None,
    verify: bool,
    server_name: str | None,
) -> Tls | None:
    """Return how we speak TLS as a caller; None: we do not.

    Raises:
        BadPayload: Options of TLS without it.
    """
    if not tls:
        if cafile or certfile or keyfile or server_name or not verify:
            raise BadPayload("TLS options without tls", at="payload.tls", hint="add tls=True")
        return None
    return Tls(cafile, certfile, keyfile, verify, server_name)


def server_tls(tls: dict[str, str] | None) -> Tls | None:
    """Return how a listener speaks TLS; None: it does not.

    Raises:
        BadPayload: An unknown key, or no certificate.
    """
    if tls is None:
        return None
    unknown = [key for key in tls if key not in {"certfile", "keyfile", "cafile"}]
    if unknown or "certfile" not in tls:
        raise BadPayload(
            f"tls has an unknown key {unknown[0]!r}" if unknown else "tls needs a certfile",
            at="payload.tls",
            hint="certfile and keyfile prove who we are; cafile asks callers to",
        )
    return Tls(tls.get("cafile"), tls["certfile"], tls.get("keyfile"), is_server=True)


def rules_of(texts: list[str]) -> list[Rule]:
    """Take rules apart that came in a message.

    Raises:
        BadPayload: One is none.
    """
    try:
        return [Rule.parse(text) for text in texts]
    except BadConfig as error:
        raise BadPayload(error.text, at="payload.allow-from", hint=error.hint) from error


def body_of(
    content: bytes, headers: dict[str, str], charset: str | None, encoding: str | None
) -> str | bytes:
    """Return an HTTP body as the caller wants it; with `auto`, text that is none stays bytes.

    Raises:
        BadPayload: It is not in the encoding that was asked for.
    """
    if encoding is None:
        return content
    if encoding == "auto":
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        is_text = kind.startswith("text/") or kind.endswith(("json", "xml", "javascript"))
        if kind and not is_text and charset is None:
            return content
    try:
        return content.decode(charset or "utf-8" if encoding == "auto" else encoding)
    except LookupError as error:
        if encoding == "auto":
            return content
        raise BadPayload(f"no encoding {encoding!r}", at="payload.encoding") from error
    except UnicodeDecodeError as error:
        if encoding == "auto":
            return content
        raise BadPayload(
            f"the answer is not {encoding}", at="payload.encoding", hint="encoding=None: bytes"
        ) from error
