"""Event streams in files: one line of JSON for the stream, then one for each event.

    {"recording": 1, "device": "d9://device/default/pad", "started": 1790000000.0}
    {"t": 0.0, "type": "touch", "data": {"x": 1.0, "y": 2.0}}

`t` is seconds since the recording began. A file that was cut off in a line is read up to there;
anything else that is no event is refused with its line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

from dan9.base.errors import Corrupt, NotFound, PermissionRefused, Refused

__all__ = ["Recorded", "Recorder", "read_recording"]

VERSION: Final = 1


class Recorded(NamedTuple):
    """One event of a recording."""

    t: float
    type: str
    data: dict[str, Any]


class Recorder:
    """Writes a recording; each event is in the file when `write` returns.

    Raises:
        NotFound: The folder does not exist.
        PermissionRefused: It may not be written.
    """

    def __init__(self, path: str, device: str, now: float) -> None:
        self.path = path
        self.events = 0
        self._began = now
        try:
            self._file: TextIO = Path(path).open(  # noqa: SIM115  (closed by `close`)
                "w", encoding="utf-8", buffering=1
            )
        except OSError as error:
            raise _refusal(path, error) from error
        self._line({"recording": VERSION, "device": device, "started": now})

    def write(self, kind: str, data: dict[str, Any], now: float) -> None:
        """Append one event."""
        self._line({"t": round(max(0.0, now - self._began), 6), "type": kind, "data": data})
        self.events += 1

    def close(self) -> None:
        """End the recording."""
        self._file.close()

    def _line(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, separators=(",", ":"), default=str) + "\n")


def read_recording(path: str) -> Iterator[Recorded]:
    """Give the events of a recording, in order.

    Raises:
        NotFound, PermissionRefused: It cannot be read.
        Corrupt: It is none, or a line within it is none.
    """
    place = Path(path)
    if place.exists() and not place.is_file():  # reading on would wait for ever
        raise NotFound(f"{path} is no file", hint="a recording, as `record` writes it")
    try:
        lines = place.read_text("utf-8").split("\n")
    except UnicodeDecodeError:
        raise Corrupt(f"{path} is no recording: it is no text") from None
    except OSError as error:
        raise _refusal(path, error) from error
    whole, cut_off = lines[:-1], lines[-1]
    if not whole or _parse(whole[0]).get("recording") != VERSION:
        raise Corrupt(
            f"{path} is no recording of version {VERSION}",
            at="line 1",
            hint='the first line reads {"recording": 1, …}',
        )
    del cut_off  # a writer that was killed leaves half a line, and nothing else wrong
    for number, line in enumerate(whole[1:], 2):
        entry = _parse(line)
        t, kind, data = entry.get("t"), entry.get("type"), entry.get("data")
        if not isinstance(t, (int, float)) or not isinstance(kind, str) or type(data) is not dict:
            raise Corrupt(f"{path}, line {number}: {line[:60]!r} is no event", at=f"line {number}")
        yield Recorded(float(t), kind, data)


def _parse(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if type(entry) is dict else {}


def _refusal(path: str, error: OSError) -> Refused:
    kind = PermissionRefused if isinstance(error, PermissionError) else NotFound
    return kind(f"{path}: {(error.strerror or str(error)).lower()}", hint="is the path right?")
