"""Names as text and back, and patterns."""

from __future__ import annotations

import errno
import os

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from dan9.base.errors import Refused
from dan9.daemons.file_refusals import IoFailed, refusal, refusing
from dan9.daemons.filenames import bytes_of, matcher, text_of

names = st.one_of(
    st.binary(min_size=1, max_size=20),
    st.text(alphabet="a\uef7f\uef80\uefff\uf000\xff", min_size=1).map(str.encode),
)


@given(names)
def test_every_name_is_text_that_finds_it_again(name: bytes) -> None:
    """The text is UTF-8, and its bytes are the name's."""
    assert bytes_of(text_of(name).encode().decode()) == name


@given(names, names)
def test_different_names_are_different_texts(one: bytes, other: bytes) -> None:
    """Nothing is spelled like something else."""
    assert (text_of(one) == text_of(other)) == (one == other)


@given(names)
def test_surrogates_spell_the_same_name(name: bytes) -> None:
    """As Python's os functions have it; apart from characters that we use ourselves."""
    if not any("\uef80" <= char <= "\uefff" for char in os.fsdecode(name)):
        assert bytes_of(os.fsdecode(name)) == name


@example("[?--]", "")
@example("[ab--a]", "")
@given(st.text(alphabet="ab*?[]!-/", min_size=1, max_size=12), st.text(alphabet="ab/", max_size=8))
def test_any_pattern_matches_or_is_refused(pattern: str, name: str) -> None:
    """No pattern breaks the daemon."""
    try:
        matcher(pattern).match(name)
    except Refused as error:
        assert error.at == "pattern"  # noqa: PT017  (either answer will do)


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("[+--]", "+-"),
        ("[--0]", "-.0"),
        ("[a-]", "-a"),
        ("[-a]", "-a"),
        ("[!-a]", "&+.0[]\\^bd|~"),
        ("[a&&b]", "&ab"),
        ("[a||b]", "ab|"),
        ("[a~~b]", "ab~"),
        ("[[a]", "[a"),
        ("[]a]", "]a"),
        ("[^a]", "^a"),
        ("[\\d]", "\\d"),
    ],
)
def test_a_set_is_of_its_characters(pattern: str, matched: str) -> None:
    """What Python's patterns mean by `--`, `&&`, `||`, `~~` and a backslash is not meant here."""
    assert "".join(char for char in "&+-./0[]\\^abd|~" if matcher(pattern).match(char)) == matched


def test_every_errno_has_an_answer() -> None:
    """What has no name of its own is io-failed, and says the system's word."""
    for code in errno.errorcode:
        answer = refusal(OSError(code, "text"), "/p")
        assert isinstance(answer, Refused)
        assert "/p" in str(answer)
    assert isinstance(refusal(OSError(errno.EIO, "text"), "/p"), IoFailed)
    assert len(str(refusal(OSError(errno.ENOENT, ""), "y" * 100_000))) < 1_000


def test_refusals_pass_unchanged() -> None:
    """Only the system's errors are named anew."""
    with pytest.raises(KeyError), refusing("/p"):
        raise KeyError("mine")
    with pytest.raises(IoFailed), refusing("/p"), refusing("/q"):
        raise OSError(errno.EIO, "")
