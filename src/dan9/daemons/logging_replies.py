"""What the logging daemon replies, key by key."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

__all__ = ["EntryRow", "FileFigures", "LevelsSet", "LogFigures", "Written"]


class EntryRow(TypedDict):
    """One entry in the reply of `display`, and what a follower is sent."""

    time: float
    level: str
    source: str
    text: str
    fields: dict[str, Any]
    trace: str


class LevelsSet(TypedDict):
    """Reply of `set-level`: what is wanted of all, and of sources by pattern."""

    min_level: str
    levels: dict[str, str]


class Written(TypedDict):
    """Reply of `write-file`."""

    path: str
    entries: int
    bytes: int


class FileFigures(TypedDict):
    """The file: entries that are in it and that it could not take, and why."""

    path: str
    bytes: int
    rotations: int
    written: int
    unwritten: int
    trouble: str


class LogFigures(TypedDict):
    """Reply of `stats`."""

    entries: int
    by_level: dict[str, int]
    buffered: int
    buffer_size: int
    buffer_bytes: int
    dropped: int
    followers: int
    min_level: str
    levels: dict[str, str]
    file: NotRequired[FileFigures]
