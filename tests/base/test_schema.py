"""Signatures: what a message takes from outside and gives back."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.base import forms
from dan9.base.address import Address
from dan9.base.arguments import arguments_from_text
from dan9.base.duration import Duration, Time
from dan9.base.errors import BadConfig, BadPayload
from dan9.base.schema import Signature
from dan9.kernel.daemon import Daemon


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Limits:
    cpu_seconds: float = 1.0
    max_memory: int | None = None


@dataclass
class Tree:
    name: str
    children: list[Tree] = field(default_factory=list)


class Entry(TypedDict):
    file_name: str
    mod_time: NotRequired[float]


class Pair(NamedTuple):
    left_side: int
    right_side: int = 0


class Packed(msgspec.Struct):
    big_number: int
    tags: list[str] = []


class Handle:
    """Stands for a ref: the mark is all that base knows of one."""

    __d9_ref__ = True
    address = "d9://counter/demo/c1"


UserId = NewType("UserId", int)


def signed(annotation: Any, reply: Any = Any) -> Signature:
    """The signature of a handler with one key of this annotation."""

    def handle(self: object, value: object) -> object:
        return value

    handle.__annotations__ = {"value": annotation, "return": reply}
    return Signature.of(handle, type="handle")


def taken(annotation: Any, value: object) -> object:
    """What the handler would get."""
    return signed(annotation).bind({"value": value})["value"]


class Files:
    """Handlers to read."""

    async def read_chunk(
        self,
        path: str,
        max_bytes: int = 65536,
        *,
        for_: str = "me",
        wait: Duration = 1.0,
        encoding: str | None = "utf-8",
    ) -> str:
        """Read a piece of a file.

        Errors: not-found.

        Args:
            path: Where it is,
                from the root.
            max_bytes (int): How much at most.

        Returns:
            path: no argument.
        """
        raise NotImplementedError

    async def write(self, source: str, **fields: object) -> None: ...

    async def nothing(self) -> None: ...


READ = Signature.of(Files.read_chunk, type="read-chunk")
WRITE = Signature.of(Files.write, type="write")


# ---------------------------------------------------------------- reading it


def test_a_signature_says_what_the_handler_says() -> None:
    """Type, summary, keys, defaults and their lines of documentation come from the handler."""
    assert READ.type == "read-chunk"
    assert READ.summary == "Read a piece of a file."
    assert "Errors: not-found." in READ.doc
    assert [p.key for p in READ.parameters] == ["path", "max-bytes", "for", "wait", "encoding"]
    assert [p.required for p in READ.parameters] == [True, False, False, False, False]
    assert READ.parameters[0].doc == "Where it is, from the root."
    assert READ.parameters[1].doc == "How much at most."


def test_a_function_without_self_has_all_its_parameters() -> None:
    """A function can be a daemon."""

    def add(by: int) -> int:
        return by

    assert Signature.of(add, type="add", bound=False).bind({"by": 1}) == {"by": 1}


def test_names_of_a_local_scope_can_be_given() -> None:
    """Classes made inside a function may annotate with each other."""

    @dataclass
    class Local:
        x: int

    def handle(self: object, value: Local) -> None: ...

    found = Signature.of(handle, type="handle", localns={"Local": Local})
    assert found.bind({"value": {"x": 1}}) == {"value": Local(1)}


def test_an_annotation_that_names_nothing_is_refused_when_the_class_is_made() -> None:
    """The text says whose it is."""

    def handle(self: object, value: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(BadConfig, match=r"handle\(\): the annotation of value, 'Nowhere'"):
        Signature.of(handle, type="handle")


def test_handlers_that_no_message_can_reach_are_refused() -> None:
    """A message has named keys, each once."""

    def star(self: object, *args: int) -> None: ...
    def slash(self: object, a: int, /) -> None: ...
    def twice(self: object, list_: int, list: int) -> None: ...  # noqa: A002

    for function in (star, slash, twice):
        with pytest.raises(BadConfig):
            Signature.of(function, type="x")


def test_a_map_with_other_keys_than_text_is_refused() -> None:
    """Map keys are text."""
    with pytest.raises(BadConfig, match="map keys are text"):
        signed(dict[int, str])


# ------------------------------------------------------------------- binding


def test_both_spellings_are_taken_at_the_top_level() -> None:
    """Kebab-case and underscores name the same key; the handler gets Python's name."""
    assert READ.bind({"path": "a", "max-bytes": 1}) == {"path": "a", "max_bytes": 1}
    assert READ.bind({"path": "a", "max_bytes": 1}) == {"path": "a", "max_bytes": 1}
    assert READ.bind({"path": "a", "for": "you"}) == {"path": "a", "for_": "you"}


def test_both_spellings_at_once_are_refused() -> None:
    """Nobody guesses which was meant."""
    with pytest.raises(BadPayload, match="both spellings") as caught:
        READ.bind({"path": "a", "max-bytes": 1, "max_bytes": 1})
    assert caught.value.at == "max_bytes"


@pytest.mark.parametrize(
    ("payload", "at", "text", "hint"),
    [
        ({"pth": "a"}, "pth", "no key pth", "did you mean path?"),
        ({"zzz": "a"}, "zzz", "no key zzz", "it takes path, max-bytes, for, wait, encoding"),
        ({}, "path", "needs the key path", "give path: text"),
        ({"path": 3}, "path", "path must be text, not the integer 3", ""),
        ({"path": None}, "path", "path must be text, not null", ""),
        ({"path": "a", "max-bytes": "x"}, "max-bytes", "must be an integer, not text 'x'", ""),
        ({"path": "a", "max-bytes": True}, "max-bytes", "must be an integer, not true", ""),
        ({"path": "a", "wait": "soon"}, "wait", "must be a duration, not text 'soon'", "250ms"),
        ({"path": "a", "for_": "x"}, "for_", "no key for_", "did you mean for?"),
        ({1: "a"}, "1", "keys are text", ""),
    ],
)
def test_what_does_not_fit_is_named(
    payload: dict[Any, object], at: str, text: str, hint: str
) -> None:
    """The refusal names message, key, what was wanted and what to write."""
    with pytest.raises(BadPayload) as caught:
        READ.bind(payload)
    error = caught.value
    assert error.at == at
    assert error.message == "read-chunk"
    assert text in error.text
    assert hint in error.hint


def test_the_path_leads_into_the_value() -> None:
    """`at` names the item and the key inside it."""
    with pytest.raises(BadPayload) as caught:
        signed(dict[str, list[Limits]]).bind({"value": {"a": [{}, {"cpu-seconds": "x"}]}})
    assert caught.value.at == "value.a[1].cpu-seconds"


def test_other_keys_reach_fields_untouched() -> None:
    """`**fields` keeps spelling and values."""
    nested = {"a-b": [1, {"c-d": 2}]}
    bound = WRITE.bind({"source": "me", "user-id": 7, "deep": nested})
    assert bound == {"source": "me", "user-id": 7, "deep": nested}


def test_fields_cannot_shadow_the_handlers_own_names() -> None:
    """A key named self would reach no handler."""
    with pytest.raises(BadPayload, match="no key self"):
        WRITE.bind({"source": "me", "self": 1})


def test_a_deeply_nested_payload_is_refused() -> None:
    """Depth is bounded by a refusal, not by a crash."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(BadPayload, match="nested too deep"):
        signed(object).bind({"value": deep})


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (float, 2, 2.0),
        (int, 3.0, 3),
        (int, str(2**70), 2**70),
        (int, str(-(2**70)), -(2**70)),
        (int | str, "5", "5"),
        (int | float, 3, 3),
        (float | None, None, None),
        (Duration, "5m", 300.0),
        (Duration | None, "5m", 300.0),
        (Duration | None, None, None),
        (Time, "1970-01-02", 86400.0),
        (bytes, "aGk=", b"hi"),
        (bytes, {"$bytes": "aGk="}, b"hi"),
        (bytes, b"hi", b"hi"),
        (str | bytes, "aGk=", "aGk="),
        (str | bytes, {"$bytes": "aGk="}, b"hi"),
        (object, {"$bytes": "aGk="}, b"hi"),
        (dict[str, object], {"a": {"$bytes": "aGk="}}, {"a": b"hi"}),
        (Fraction, "19/254", Fraction(19, 254)),
        (Fraction | int, 2, 2),
        (str | list[str], ["a"], ["a"]),
        (list[int], (1, 2), [1, 2]),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[int, ...], [1, 2], (1, 2)),
        (set[str], ["a", "a"], {"a"}),
        (frozenset[str], ["a"], frozenset({"a"})),
        (Mapping[str, int], {"a-b": 1}, {"a-b": 1}),
        (Literal["up", "down"], "up", "up"),
        (Colour, "red", Colour.RED),
        (UserId, 5, 5),
        (Path, "/tmp", Path("/tmp")),
        (datetime, 0, datetime(1970, 1, 1, tzinfo=UTC)),
        (UUID, "12345678123456781234567812345678", UUID("12345678123456781234567812345678")),
        (Address, "d9://a/b", Address("a", "default", "b")),
        (Handle, "d9://counter/demo/c1", "d9://counter/demo/c1"),
        (Limits, {"cpu-seconds": 2}, Limits(2.0)),
        (Limits, {"cpu_seconds": 2, "max-memory": 5}, Limits(2.0, 5)),
        (Limits | str, {"max-memory": 5}, Limits(max_memory=5)),
        (Entry, {"file-name": "a"}, {"file_name": "a"}),
        (Pair, {"left-side": 1}, Pair(1)),
        (Packed, {"big-number": 1, "tags": ["a"]}, Packed(1, ["a"])),
        (Tree, {"name": "a", "children": [{"name": "b"}]}, Tree("a", [Tree("b")])),
        (Annotated[int, msgspec.Meta(ge=0)], 3, 3),
        (Callable[[], int] | str, "d9://a/b", "d9://a/b"),
    ],
)
def test_values_from_outside_become_what_is_annotated(
    annotation: Any, value: object, expected: object
) -> None:
    """Every schema type has its forms outside."""
    found = taken(annotation, value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (float, math.nan),
        (float, math.inf),
        (float, 10**400),
        (float, True),
        (object, [math.nan]),
        (dict[str, object], {"a": {"b": -math.inf}}),
        (dict[str, object], {1: 2}),
        (dict[str, int], [("a", 1)]),
        (int, 1.5),
        (int, "12"),
        (int, "9" * 5000),
        (str, b"x"),
        (bytes, "no base64!"),
        (object, {"$bytes": 3}),
        (bool, 1),
        (list[int], "12"),
        (list[int], {"a": 1}),
        (tuple[int, str], [1]),
        (set[Any], [[1]]),
        (Fraction, "1/0"),
        (Fraction, "x"),
        (Literal["up", "down"], "upp"),
        (Literal[1], True),
        (Colour, "green"),
        (datetime, "soon"),
        (datetime, 1e30),
        (UUID, "x"),
        (Address, "timer"),
        (Address, 3),
        (Limits, {"cpu": 1}),
        (Limits, {"cpu-seconds": 1, "cpu_seconds": 1}),
        (Limits, "x"),
        (Entry, {}),
        (Tree, {"children": []}),
        (Annotated[int, msgspec.Meta(ge=0)], -1),
        (Callable[[], int], "x"),
        (int | list[int], "x"),
        (type(None), 0),
    ],
)
def test_values_that_do_not_fit_are_refused(annotation: Any, value: object) -> None:
    """A refusal, with a path, whatever comes in."""
    with pytest.raises(BadPayload) as caught:
        taken(annotation, value)
    assert caught.value.at.startswith("value")


def test_a_word_near_a_literal_is_suggested() -> None:
    """Misspelt choices are helped with."""
    with pytest.raises(BadPayload) as caught:
        taken(Literal["replace", "before"], "replce")
    assert caught.value.hint == "did you mean replace?"


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Member(Daemon):
    pass


def test_a_daemon_class_among_untyped_data_is_its_name() -> None:
    """As dan9.toml writes it; an address in memory would be another in every run."""
    name = f"{__name__}:Member"
    assert forms.plain_of({"cycle": Member}) == forms.wire_of({"cycle": Member}) == {"cycle": name}
    with pytest.raises(BadPayload, match="the address of a daemon"):
        taken(Member, Member)


@given(PLAIN)
def test_data_survives_json_and_msgpack(value: object) -> None:
    """Whatever is plain data comes back through either form; `$bytes` alone is a word."""
    if "$bytes" in repr(value):
        return
    wire = forms.wire_of(value)
    assert taken(object, msgspec.msgpack.decode(msgspec.msgpack.encode(wire))) == value
    assert taken(object, json.loads(json.dumps(forms.json_form(wire)))) == value


@given(st.text(), st.integers(), st.sampled_from(["max_bytes", "max-bytes"]), st.integers(0, 2))
def test_a_call_survives_its_payload(path: str, size: int, spelled: str, positional: int) -> None:
    """bind(payload_of(call)) is the call."""
    args = (path, size)[:positional]
    kwargs = dict(list({"path": path, "max_bytes": size}.items())[positional:])
    payload = READ.payload_of(args, kwargs)
    assert READ.bind(payload) == {"path": path, "max_bytes": size}
    respelled = {(spelled if key == "max_bytes" else key): v for key, v in payload.items()}
    assert READ.bind(respelled) == {"path": path, "max_bytes": size}


def test_a_python_call_has_pythons_spelling_and_no_defaults() -> None:
    """The payload of a call has the keys that the message has."""
    assert READ.payload_of(("a",), {"for_": "x"}) == {"path": "a", "for": "x"}
    assert WRITE.payload_of(("me",), {"user-id": 1}) == {"source": "me", "user-id": 1}


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), (("a", 1, 2), {}), (("a",), {"path": "b"}), (("a",), {"nope": 1})],
)
def test_a_python_call_that_does_not_fit_is_a_type_error(
    args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    """As if the handler had been called."""
    with pytest.raises(TypeError):
        READ.payload_of(args, kwargs)


# ------------------------------------------------------------------- replies


def test_replies_of_plain_types_need_no_conversion() -> None:
    """The kernel may skip the walk."""
    for reply in (None, int, str, list[int], dict[str, str], str | None, float):
        assert not signed(int, reply).needs_conversion
    for reply in (object, Limits, list[Limits], Fraction, tuple[int, int], dict[str, object]):
        assert signed(int, reply).needs_conversion


@pytest.mark.parametrize(
    ("reply", "value", "plain", "wire"),
    [
        (Limits, Limits(2.0), {"cpu_seconds": 2.0, "max_memory": None},
         {"cpu-seconds": 2.0, "max-memory": None}),
        (Entry, {"file_name": "a"}, {"file_name": "a"}, {"file-name": "a"}),
        (list[Entry], [{"file_name": "a"}], [{"file_name": "a"}], [{"file-name": "a"}]),
        (dict[str, Pair], {"a_b": Pair(1, 2)}, {"a_b": {"left_side": 1, "right_side": 2}},
         {"a_b": {"left-side": 1, "right-side": 2}}),
        (Packed, Packed(2**70), {"big_number": 2**70, "tags": []},
         {"big-number": str(2**70), "tags": []}),
        (object, {"a_b": Limits()}, {"a_b": {"cpu_seconds": 1.0, "max_memory": None}},
         {"a_b": {"cpu-seconds": 1.0, "max-memory": None}}),
        (Fraction, Fraction(1, 3), "1/3", "1/3"),
        (object, [Fraction(1, 3), {3, 1}], ["1/3", [1, 3]], ["1/3", [1, 3]]),
        (tuple[int, Fraction], (1, Fraction(2)), [1, "2/1"], [1, "2/1"]),
        (set[str], {"b", "a"}, ["a", "b"], ["a", "b"]),
        (Colour, Colour.RED, "red", "red"),
        (Colour | None, None, None, None),
        (Limits | None, Limits(), {"cpu_seconds": 1.0, "max_memory": None},
         {"cpu-seconds": 1.0, "max-memory": None}),
        (Limits | str, "x", "x", "x"),
        (Handle, Handle(), "d9://counter/demo/c1", "d9://counter/demo/c1"),
        (object, [Handle()], ["d9://counter/demo/c1"], ["d9://counter/demo/c1"]),
        (int, 2**64, 2**64, str(2**64)),
        (int, 2**64 - 1, 2**64 - 1, 2**64 - 1),
        (object, Path("/x"), "/x", "/x"),
        (datetime, datetime(1970, 1, 2, tzinfo=UTC), 86400.0, 86400.0),
        (Address, Address("a", "b", "c"), "d9://a/b/c", "d9://a/b/c"),
        (None, None, None, None),
        (Tree, Tree("a", [Tree("b")]),
         {"name": "a", "children": [{"name": "b", "children": []}]},
         {"name": "a", "children": [{"name": "b", "children": []}]}),
    ],
)  # fmt: skip
def test_replies_go_out_as_plain_data(
    reply: Any, value: object, plain: object, wire: object
) -> None:
    """Records become maps, underscores for Python, kebab-case for wires; map keys stay."""
    signature = signed(int, reply)
    assert signature.plain(value) == plain
    assert signature.wire(value) == wire


def test_a_reply_in_which_nothing_changes_is_itself() -> None:
    """By reference locally."""
    reply = {"a": [1, {"b": "c"}]}
    assert signed(int, object).plain(reply) is reply
    assert signed(int, object).wire(reply) is reply


@pytest.mark.parametrize("value", [math.nan, [math.inf], {1: 2}, object(), {"a": object()}])
def test_a_reply_without_a_form_is_refused_on_the_wire(value: object) -> None:
    """The asker hears of it; the socket does not break."""
    with pytest.raises(BadPayload):
        signed(int, object).wire(value)


# ------------------------------------------------------------------- schemas


def test_the_payload_schema_has_kebab_keys_and_the_documentation() -> None:
    """`describe`, forms and completion read this."""
    schema = READ.payload_schema()
    assert list(schema["properties"]) == ["path", "max-bytes", "for", "wait", "encoding"]
    assert schema["required"] == ["path"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["max-bytes"] == {
        "type": "integer",
        "default": 65536,
        "description": "How much at most.",
    }
    assert schema["properties"]["encoding"] == {"type": ["string", "null"], "default": "utf-8"}
    assert WRITE.payload_schema()["additionalProperties"] is True
    assert Signature.of(Files.nothing, type="nothing").payload_schema() == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


def test_a_record_that_holds_itself_has_a_finite_schema() -> None:
    """It refers to its definition."""
    schema = signed(int, Tree).reply_schema()
    assert schema["$ref"] == "#/$defs/Tree"
    children = schema["$defs"]["Tree"]["properties"]["children"]
    assert children == {"type": "array", "items": {"$ref": "#/$defs/Tree"}}


@pytest.mark.parametrize(
    "annotation",
    [
        object,
        int,
        Limits,
        list[Entry],
        Colour,
        Duration | None,
        str | bytes,
        tuple[int, str],
        dict[str, Fraction],
        Annotated[int, msgspec.Meta(ge=0)],
        Callable[[], int] | str,
        Tree,
    ],
)
def test_schemas_are_json(annotation: Any) -> None:
    """Every schema crosses every wire."""
    signature = signed(annotation, annotation)
    json.dumps(signature.payload_schema())
    msgspec.msgpack.encode(signature.reply_schema())


def test_json_bytes_are_base64_where_the_schema_says_bytes() -> None:
    """Elsewhere they are marked."""
    schema = signed(int, dict[str, bytes]).reply_schema()
    assert forms.json_form({"a": b"hi"}, schema) == {"a": "aGk="}
    assert forms.json_form({"a": b"hi"}) == {"a": {"$bytes": "aGk="}}
    assert forms.json_form([b"hi"], signed(int, list[bytes]).reply_schema()) == ["aGk="]
    assert forms.json_form(b"hi", signed(int, str | bytes).reply_schema()) == {"$bytes": "aGk="}


# ------------------------------------------------------------ command line


def words(**annotations: Any) -> Signature:
    """The signature of a handler with these keys."""
    names = ", ".join(annotations)
    scope: dict[str, Any] = {}
    exec(f"def handle(self, {names}): ...", scope)
    handle = scope["handle"]
    handle.__annotations__ = annotations
    return Signature.of(handle, type="handle")


def test_words_are_text_wherever_the_schema_allows_text() -> None:
    """Else they are JSON; `:=` is always JSON."""
    signature = words(
        text=str, number=int, either=str | list[str], wait=Duration, anything=object,
        flag=bool, items=list[str], maybe=int | None, colour=Colour,
    )  # fmt: skip
    pairs = ["text=12", "number=12", "either=12", "wait=5m", "anything=12", "flag=true"]
    payload = signature.arguments_from_text(
        [*pairs, 'items=["a"]', "maybe=null", "colour=red"],
    )
    assert payload == {
        "text": "12", "number": 12, "either": "12", "wait": "5m", "anything": "12",
        "flag": True, "items": ["a"], "maybe": None, "colour": "red",
    }  # fmt: skip
    assert arguments_from_text(["a:=[1]", "b=c=d"]) == {"a": [1], "b": "c=d"}


def test_a_file_is_read_for_an_at_sign() -> None:
    """Text where text is allowed, bytes where bytes are, else JSON."""
    signature = words(text=str, raw=bytes, items=list[int], max_bytes=int)
    files = {"t": b"hi", "b": b"\xff", "j": b"[1]"}
    payload = signature.arguments_from_text(
        ["text=@t", "raw=@b", "items=@j", "max_bytes=5"], read=files.__getitem__
    )
    assert payload == {"text": "hi", "raw": b"\xff", "items": [1], "max_bytes": 5}


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("path", "no key=value"),
        ("=x", "no key=value"),
        (":=x", "no key=value"),
        ("n=x", "n: 'x' is not JSON .n is no text"),
        ("n=[1,", r"is not JSON: Expecting value: line 1 column 4"),
        ("n:=NaN", "NaN is no number for a wire"),
        ("t:=", "is not JSON"),
        ("t=@/none", "cannot read /none: No such file"),
    ],
)
def test_words_that_are_no_pairs_are_refused(word: str, text: str) -> None:
    """The refusal names the word or the key."""

    def read(path: str) -> bytes:
        raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(BadPayload, match=text):
        words(n=int, t=str).arguments_from_text([word], read=read)


def test_a_word_given_twice_is_refused() -> None:
    """Nobody guesses which was meant; files are read only where the caller reads them."""
    with pytest.raises(BadPayload, match="given twice"):
        arguments_from_text(["a=1", "a=2"])
    with pytest.raises(BadPayload, match="files are not read here"):
        arguments_from_text(["a=@x"])
