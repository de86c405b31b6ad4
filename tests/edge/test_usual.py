"""The usual ask and the head of its answer: the same as the decoder that knows every frame says."""

from __future__ import annotations

import random  # noqa: TID251 - garbles by a seed of its own
from typing import Any

import msgspec
import pytest

from dan9.base.frame import FrameReader
from dan9.base.linked import IS_COMPILED
from dan9.edge.outbox import Outbox
from dan9.edge.protocol import Answer, Request, decode_from_node
from dan9.edge.usual import answer_head, read_ask

encode = msgspec.msgpack.encode
PAYLOADS: list[dict[str, Any]] = [
    {},
    {"text": "x" * 16},
    {"text": "", "path": "/tmp/ö€😀", "long": "y" * 300},
    {"no": None, "yes": True, "not": False, "real": 0.1, "far": float("inf")},
    {
        "numbers-k": 0,
        "b": 127,
        "c": 128,
        "d": 255,
        "e": 256,
        "f": 2**16,
        "g": 2**32,
        "h": 2**64 - 1,
    },
    {
        "a": -1,
        "b": -32,
        "c": -33,
        "d": -128,
        "e": -129,
        "f": -(2**15),
        "g": -(2**31),
        "h": -(2**63),
    },
]
UNUSUAL: list[Any] = [
    {"id": 1, "to": "a", "type": "b", "payload": {"deep": {}}},
    {"id": 1, "to": "a", "type": "b", "payload": {"list": [1]}},
    {"id": 1, "to": "a", "type": "b", "payload": {"bytes": b"1"}},
    {"id": 1, "to": "a", "type": "b", "payload": {1: 2}},
    {"id": 1, "to": "a", "type": "b", "payload": {"text": "x" * 5_000}},
    {"id": 1, "to": "a", "type": "b", "payload": {}, "timeout": 1.0},
    {"id": 1, "to": "a", "type": "b", "kind": "tell"},
    {"id": "1", "to": "a", "type": "b", "payload": {}},
    {"id": None, "to": "a", "type": "b", "payload": {}},
    {"id": True, "to": "a", "type": "b", "payload": {}},
    {"id": 1, "to": 2, "type": "b", "payload": {}},
    {"id": 1, "to": "a", "type": "b", "payload": []},
    {"to": "a", "type": "b", "payload": {}},
    [1, "a", "b", {}],
    None,
]


def asks() -> list[tuple[int, str, str, dict[str, Any]]]:
    """Return asks that are usual."""
    numbers = [0, 1, 127, 128, 2**16, 2**32, 2**63, 2**64 - 1, -1]
    return [
        (numbers[place % len(numbers)], to, type_, payload)
        for place, payload in enumerate(PAYLOADS * 3)
        for to, type_ in (("echo", "say"), ("d9://echo/default/ö", "z" * 40))
    ]


@pytest.mark.skipif(not IS_COMPILED, reason="nothing is usual to the uncompiled reader")
def test_a_usual_ask_is_read() -> None:
    """Id, receiver, type and payload come out as they went in, twice over: kept texts too."""
    for number, to, type_, payload in asks() * 2:
        body = encode({"id": number, "to": to, "type": type_, "payload": payload})
        found = read_ask(body)
        if len(body) > 4_096 or len(payload) > 15:
            continue
        assert found == (number, to, type_, payload)
        assert [type(value) for value in found[3].values()] == list(map(type, payload.values()))
        turned = encode({"payload": payload, "type": type_, "to": to, "id": number})
        assert read_ask(turned) == found


@pytest.mark.parametrize("frame", UNUSUAL)
def test_any_other_frame_is_left_to_the_decoder(frame: Any) -> None:
    """What is not plainly a usual ask is None, and nothing is raised."""
    assert read_ask(encode(frame)) is None


def test_what_is_cut_or_garbled_is_read_as_the_decoder_does() -> None:
    """Of bytes that are nearly an ask, what is read is what the decoder reads, or nothing."""
    lots = random.Random(7)
    for number, to, type_, payload in asks():
        body = encode({"id": number, "to": to, "type": type_, "payload": payload})
        for cut in range(len(body)):
            assert read_ask(body[:cut]) is None
        assert read_ask(body + b"\x00") is None
        for _ in range(300):
            garbled = bytearray(body)
            for _ in range(lots.randint(1, 3)):
                garbled[lots.randrange(len(garbled))] = lots.randrange(256)
            found = read_ask(bytes(garbled))
            if found is not None:
                request = msgspec.msgpack.decode(garbled, type=Request)
                same = (request.id, request.to, request.type, request.payload)
                assert repr(found) == repr(same)  # a NaN equals nothing


def test_the_longest_text_may_be_said_to_be_longer() -> None:
    """A length beyond the bytes that are there is no text, whatever it adds up to."""
    for tag in (b"\xdb\xff\xff\xff\xff", b"\xda\xff\xff", b"\xd9\xff", b"\xbf"):
        assert read_ask(b"\x84" + tag + b"id") is None
        assert read_ask(b"\x84\xa2id\x01\xa2to" + tag) is None


@pytest.mark.parametrize(
    "number", [0, 127, 128, 65_535, 65_536, 2**32, 2**63, 2**64 - 1, -1, -(2**63)]
)
def test_an_answer_is_what_its_struct_says(number: int) -> None:
    """The head and the encoded value are the frame of an `Answer`."""
    for value in (None, "text", {"a": [1, 2]}, "x" * 70_000):
        body = encode(value)
        (found,) = FrameReader().feed(answer_head(number, len(body)) + body)
        assert msgspec.msgpack.decode(found, type=Answer) == Answer(number, value)


def test_an_answer_leaves_as_any_frame_does() -> None:
    """Small and large answers leave the outbox whole and in order."""
    out = Outbox()
    values = ["small", "x" * 100_000, {"a": 1}, b"y" * 40_000]
    for number, value in enumerate(values):
        out.answer(number, value, 1_000_000)
    out.add(Answer(9, "end"), 1_000_000)
    size = out.size
    data = b"".join(out.take())
    assert size == len(data)
    frames = [decode_from_node(body) for body in FrameReader().feed(data)]
    assert [(one.id, one.ok) for one in frames] == [*enumerate(values), (9, "end")]


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1])
def test_a_number_of_more_than_64_bits_is_refused(number: int) -> None:
    """No client can have sent it."""
    with pytest.raises(OverflowError):
        answer_head(number, 1)
