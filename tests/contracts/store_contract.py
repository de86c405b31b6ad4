"""What every Store and Journal must do, whatever it is made of.

A module that imports these tests gives them a fixture `bench`: a store on a medium
that outlives it, and the hardships that the medium can be put to.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import pytest

from dan9.base.errors import BadPayload, Closed, Conflict, Corrupt, Refused
from dan9.base.ports import Alarm, Checkpoint, Entry, Known

A, B = "d9://counter/test/a", "d9://counter/test/b"


class Bench(Protocol):
    """A store under test."""

    store: Any
    alarms: list[Alarm]

    def settle(self) -> None:
        """Return when everything handed in was answered."""

    def reopen(self) -> None:
        """Close the store and open its medium anew."""

    def break_disk(self) -> None:
        """Let every commit fail from now on."""

    def mend_disk(self) -> None:
        """Let commits succeed again."""

    def tear(self, address: str, version: int) -> None:
        """Alter what is stored."""


class Answers(list[Exception | None]):
    """Collects what `done` was told, in order."""

    def __call__(self, error: Exception | None) -> None:
        self.append(error)


def state(
    address: str = A, blob: bytes = b"1", when: float = 1.0, schema: str = "s1"
) -> Checkpoint:
    """Return a checkpoint."""
    return Checkpoint(address, schema, blob, when)


def entry(number: int, address: str = A, when: float = 1.0) -> Entry:
    """Return a message to a durable daemon."""
    return Entry(address, f"m{number}", "add", b"payload", when, "d9://client/test/1")


def save(bench: Bench, *states: Checkpoint, **options: Any) -> Any:
    """Save and wait for the acknowledgement."""
    answers = Answers()
    receipt = bench.store.save(list(states), answers, **options)
    bench.settle()
    assert answers == [None]
    return receipt


# ---- checkpoints ------------------------------------------------------------


def test_nothing_is_loaded_where_nothing_was_saved(bench: Bench):
    """A daemon never saved has no state."""
    assert bench.store.load(A) is None
    assert bench.store.versions(A) == []


def test_a_saved_state_comes_back_whole(bench: Bench):
    """Every column returns, with version 1."""
    saved = Checkpoint(A, "counter:3", b"\x00\xff" * 300, 1234.5, "msgpack", b"metrics")
    assert save(bench, saved).versions == [1]
    assert bench.store.load(A) == saved._replace(version=1)


def test_states_survive_reopening(bench: Bench):
    """What was acknowledged is there in the next life, and versions go on."""
    save(bench, state(blob=b"1"))
    bench.reopen()
    assert bench.store.load(A).blob == b"1"
    assert save(bench, state(blob=b"2")).versions == [2]


def test_closing_commits_what_was_accepted(bench: Bench):
    """A save just before close is not lost."""
    bench.store.save([state(blob=b"last")])
    bench.reopen()
    assert bench.store.load(A).blob == b"last"


def test_versions_count_and_old_ones_go(bench: Bench):
    """The newest `keep` stay, numbered from 1 on."""
    for number in range(1, 6):
        save(bench, state(blob=b"%d" % number, when=float(number)), keep=3)
    kept = bench.store.versions(A)
    assert [(v.version, v.when, v.size_bytes, v.schema) for v in kept] == [
        (3, 3.0, 1, "s1"),
        (4, 4.0, 1, "s1"),
        (5, 5.0, 1, "s1"),
    ]
    assert bench.store.load(A, 4).blob == b"4"
    assert bench.store.load(A, 2) is None
    assert bench.store.load(A, 99) is None


@pytest.mark.parametrize("keeps", [(3, 5, 2), (1, 4, 4), (5, 1, 3), (2, 3, 1000)])
def test_keep_may_change(bench: Bench, keeps: tuple[int, ...]):
    """Changing `keep` loses none of those that both keep."""
    number, kept = 0, 0
    for keep in keeps:
        for _ in range(4):
            number += 1
            save(bench, state(blob=b"%d" % number), keep=keep)
            kept = min(kept + 1, keep)
            found = [v.version for v in bench.store.versions(A)]
            assert found == list(range(number - kept + 1, number + 1))
    assert bench.store.load(A).blob == b"%d" % number


def test_saves_of_one_turn_are_numbered_in_order(bench: Bench):
    """Many saves without waiting commit in the order they were handed in."""
    answers = Answers()
    receipts = [bench.store.save([state(blob=b"%d" % n)], answers) for n in range(300)]
    bench.settle()
    assert answers == [None] * 300
    assert [receipt.versions for receipt in receipts] == [[n + 1] for n in range(300)]
    assert bench.store.load(A).blob == b"299"


def test_a_group_is_fewer_commits_than_requests(bench: Bench):
    """What arrives during a commit is committed together."""
    for n in range(500):
        bench.store.save([state(blob=b"%d" % n)])
    bench.settle()
    assert bench.store.groups < bench.store.requests / 4


def test_checkpoint_all_has_one_number(bench: Bench):
    """A checkpoint-all gets a number of its own, the next one the next."""
    first = save(bench, state(A), state(B), snapshot=True)
    second = save(bench, state(A), snapshot=True)
    assert second.snapshot == first.snapshot + 1
    assert [(v.address, v.version, v.snapshot) for v in bench.store.versions()] == [
        (A, 1, first.snapshot),
        (A, 2, second.snapshot),
        (B, 1, first.snapshot),
    ]
    assert bench.store.load(B).snapshot == first.snapshot


def test_each_may_keep_its_own_number(bench: Bench):
    """One transaction, a `keep` for each address."""
    for _ in range(4):
        save(bench, state(A), state(B), keep=[1, 3])
    assert len(bench.store.versions(A)) == 1
    assert len(bench.store.versions(B)) == 3


def test_the_same_address_twice_in_one_save(bench: Bench):
    """Both versions are stored, in order."""
    receipt = save(bench, state(blob=b"x"), state(blob=b"y"))
    assert receipt.versions == [1, 2]
    assert bench.store.load(A).blob == b"y"


@pytest.mark.parametrize("stride", [1, 7, 41])
def test_many_in_one_save_are_as_one_by_one(bench: Bench, stride: int):
    """New addresses and known ones, several times each, each with a `keep` of its own."""
    expected: dict[str, list[bytes]] = {}
    counts: dict[str, int] = {}
    keeps = {f"d9://worker/many/w{n}": (1, 3, 5)[n % 3] for n in range(90)}
    names = list(keeps)
    for turn, count in enumerate((90, 130, 70)):
        chosen = [names[(n * stride + 11 * turn) % 90] for n in range(count)]
        states = [state(a, b"%d %d" % (turn, n)) for n, a in enumerate(chosen)]
        receipt = save(bench, *states, keep=[keeps[a] for a in chosen])
        numbers = []
        for each in states:
            counts[each.address] = counts.get(each.address, 0) + 1
            numbers.append(counts[each.address])
            rows = expected.setdefault(each.address, [])
            rows.append(each.blob)
            del rows[: -keeps[each.address]]
        assert receipt.versions == numbers
    for address, blobs in expected.items():
        versions = [version.version for version in bench.store.versions(address)]
        assert versions == list(range(counts[address] - len(blobs) + 1, counts[address] + 1))
        assert [bench.store.load(address, number).blob for number in versions] == blobs
        assert bench.store.load(address).blob == blobs[-1]


def test_delete_keeps_the_newest(bench: Bench):
    """`delete` leaves `keep` versions and other addresses alone."""
    for n in range(3):
        save(bench, state(blob=b"%d" % n), state(B))
    bench.store.delete(A, 1)
    bench.settle()
    assert [v.version for v in bench.store.versions(A)] == [3]
    assert len(bench.store.versions(B)) == 3


def test_a_forgotten_version_is_never_given_again(bench: Bench):
    """After `delete keep=0` numbers go on, in the next life too."""
    save(bench, state())
    save(bench, state())
    bench.store.delete(A, 0)
    bench.settle()
    assert bench.store.load(A) is None
    bench.reopen()
    assert save(bench, state()).versions == [3]


def test_deleting_what_is_not_there_does_nothing(bench: Bench):
    """`delete` of an unknown address is no error."""
    answers = Answers()
    bench.store.delete("d9://no/such/one", 0, answers)
    bench.settle()
    assert answers == [None]


@pytest.mark.parametrize(
    "wrong",
    [
        state()._replace(when=float("nan")),
        state()._replace(when=float("inf")),
        state()._replace(blob="text"),  # type: ignore[arg-type]  # the point of the test
        state()._replace(metrics=None),  # type: ignore[arg-type]  # the point of the test
    ],
)
def test_what_cannot_be_stored_is_refused_at_once(bench: Bench, wrong: Checkpoint):
    """A bad checkpoint raises in its caller and harms no neighbour."""
    with pytest.raises(BadPayload):
        bench.store.save([state(), wrong])
    bench.settle()
    assert bench.store.load(A) is None


def test_a_torn_row_is_reported_and_never_loaded(bench: Bench):
    """A row that is not what was saved is Corrupt, no older version takes its place."""
    save(bench, state(blob=b"one"))
    save(bench, state(blob=b"two"))
    bench.tear(A, 2)
    with pytest.raises(Corrupt, match="version 2 of d9://counter/test/a"):
        bench.store.load(A)
    assert bench.store.load(A, 1).blob == b"one"
    faults = bench.store.verify()
    assert [(f.address, f.version) for f in faults] == [(A, 2)]
    assert faults[0].fault
    assert bench.store.verify(B) == []


def test_verify_of_a_sound_store_finds_nothing(bench: Bench):
    """No row is reported that is as it was written."""
    save(bench, state(A), state(B), snapshot=True)
    bench.store.append(entry(1))
    bench.store.handled(entry(2), state(), b"r")
    bench.settle()
    assert bench.store.verify() == []


def test_compaction_loses_nothing(bench: Bench):
    """After `compact` everything is as before."""
    for n in range(20):
        save(bench, state(f"d9://c/t/{n}", b"x" * 2000))
    for n in range(15):
        bench.store.delete(f"d9://c/t/{n}", 0)
    answers = Answers()
    bench.store.compact(answers)
    bench.settle()
    assert answers == [None]
    assert len(bench.store.versions()) == 5
    assert bench.store.load("d9://c/t/19").blob == b"x" * 2000


def test_a_closed_store_refuses(bench: Bench):
    """Nothing is accepted or answered after close; a second close does nothing."""
    bench.store.close()
    bench.store.close()
    answers = Answers()
    bench.store.save([state()], answers)
    bench.settle()
    assert [type(error) for error in answers] == [Closed]
    with pytest.raises(Closed):
        bench.store.load(A)


# ---- journal ----------------------------------------------------------------


def test_a_new_id_is_new(bench: Bench):
    """An id never heard of is NEW."""
    assert bench.store.seen(A, "m1").known is Known.NEW


def test_an_entry_lives_from_append_to_handled(bench: Bench):
    """appended: pending; handled: state, id and reply at once."""
    answers = Answers()
    bench.store.append(entry(1), answers)
    assert bench.store.seen(A, "m1").known is Known.PENDING
    bench.settle()
    assert bench.store.pending(A) == [entry(1)]
    assert bench.store.pending(B) == []
    bench.store.handled(entry(1), state(blob=b"after"), b"reply", answers)
    bench.settle()
    assert answers == [None, None]
    assert bench.store.pending(A) == []
    seen = bench.store.seen(A, "m1")
    assert (seen.known, seen.reply) == (Known.HANDLED, b"reply")
    assert bench.store.load(A).blob == b"after"


def test_pending_entries_survive_in_order(bench: Bench):
    """The next life delivers what was accepted, oldest first."""
    for n in (3, 1, 2):
        bench.store.append(entry(n))
    bench.settle()
    bench.store.handled(entry(1), None)
    bench.reopen()
    assert [e.id for e in bench.store.pending(A)] == ["m3", "m2"]


def test_an_ask_needs_no_append(bench: Bench):
    """An entry may be handled without having been appended."""
    answers = Answers()
    bench.store.handled(entry(7), state(blob=b"s"), b"r", answers)
    bench.settle()
    assert answers == [None]
    bench.reopen()
    assert bench.store.seen(A, "m7").reply == b"r"


def test_a_message_takes_effect_once(bench: Bench):
    """The second `handled` of an id is a Conflict and changes nothing."""
    answers = Answers()
    bench.store.handled(entry(1), state(blob=b"first"), b"r1", answers)
    bench.settle()
    bench.store.handled(entry(1), state(blob=b"second"), b"r2", answers)
    bench.settle()
    assert [type(error) for error in answers] == [type(None), Conflict]
    assert bench.store.load(A).blob == b"first"
    assert bench.store.seen(A, "m1").reply == b"r1"


def test_a_conflict_harms_no_neighbour(bench: Bench):
    """Others in the same group are committed."""
    bench.store.append(entry(1))
    bench.settle()
    answers = Answers()
    bench.store.append(entry(1), answers)
    bench.store.append(entry(2), answers)
    bench.store.save([state(B)], answers)
    bench.settle()
    assert [type(error) for error in answers] == [Conflict, type(None), type(None)]
    assert bench.store.load(B) is not None


def test_ids_belong_to_their_daemon(bench: Bench):
    """The same id at two addresses is two messages."""
    answers = Answers()
    bench.store.handled(entry(1, A), None, b"a", answers)
    bench.store.handled(entry(1, B), None, b"b", answers)
    bench.settle()
    assert answers == [None, None]
    assert bench.store.seen(A, "m1").reply == b"a"
    assert bench.store.seen(B, "m1").reply == b"b"


def test_a_buried_message_is_not_delivered_again(bench: Bench):
    """Poison is DEAD, its id stays known."""
    bench.store.append(entry(1))
    bench.store.bury(entry(1), "poison")
    bench.settle()
    bench.reopen()
    assert bench.store.pending(A) == []
    assert bench.store.seen(A, "m1").known is Known.DEAD
    answers = Answers()
    bench.store.append(entry(1), answers)
    bench.settle()
    assert isinstance(answers[0], Conflict)


def test_deliveries_are_counted_across_lives(bench: Bench):
    """`redelivered` counts, so that the third time can be the last."""
    bench.store.append(entry(1))
    bench.settle()
    assert bench.store.pending(A)[0].deliveries == 1
    for expected in (2, 3):
        bench.store.redelivered(entry(1))
        bench.reopen()
        assert bench.store.pending(A)[0].deliveries == expected


@pytest.mark.parametrize(
    "wrong",
    [replace(entry(1), when=float("nan")), replace(entry(1), payload={}), replace(entry(1), id="")],  # type: ignore[arg-type]  # the point of the test
)
def test_a_bad_entry_is_refused_at_once(bench: Bench, wrong: Entry):
    """What the journal cannot hold raises in its caller."""
    with pytest.raises(BadPayload):
        bench.store.append(wrong)
    with pytest.raises(BadPayload):
        bench.store.handled(wrong, None)


# ---- when the disk fails ----------------------------------------------------


def test_a_failed_commit_is_never_acknowledged(bench: Bench):
    """Errors reach every caller, nothing of it is stored, and an alarm stands."""
    save(bench, state(blob=b"before"))
    bench.break_disk()
    answers = Answers()
    bench.store.save([state(blob=b"lost")], answers)
    bench.store.append(entry(1), answers)
    bench.settle()
    assert len(answers) == 2
    assert all(isinstance(error, Refused) for error in answers)
    assert bench.store.load(A).blob == b"before"
    assert bench.alarms[0].state == "degraded"
    assert "nothing is being saved" in bench.alarms[0].text
    assert bench.store.alarm.failed >= 2


def test_a_mended_disk_is_used_again(bench: Bench):
    """Saving goes on by itself, and the alarm is lifted."""
    save(bench, state(blob=b"before"))
    bench.break_disk()
    bench.store.save([state(blob=b"lost")])
    bench.settle()
    bench.mend_disk()
    assert save(bench, state(blob=b"after")).versions == [2]
    assert [alarm.state for alarm in bench.alarms] == ["degraded", "ok"]
    bench.reopen()
    assert bench.store.load(A).blob == b"after"


def test_one_alarm_for_one_trouble(bench: Bench):
    """A hundred failures are one alarm with a count."""
    bench.break_disk()
    for _ in range(10):
        bench.store.save([state()])
        bench.settle()
    assert len(bench.alarms) == 1
    assert bench.store.alarm.failed >= 10


def test_later_steps_of_a_failed_daemon_are_fenced(bench: Bench):
    """What was computed on top of a refused effect is refused too, until it is restored."""
    answers = Answers()
    bench.store.handled(entry(1), state(blob=b"1"), b"", answers)
    bench.settle()
    bench.break_disk()
    bench.store.handled(entry(2), state(blob=b"12"), b"", answers)
    bench.settle()
    bench.mend_disk()
    bench.store.handled(entry(3), state(blob=b"123"), b"", answers)
    bench.store.handled(entry(3, B), state(B, b"b"), b"", answers)
    bench.settle()
    assert [error is None for error in answers] == [True, False, False, True]
    assert bench.store.pending(A) == []
    assert bench.store.load(A).blob == b"1"
    bench.store.handled(entry(2), state(blob=b"12"), b"", answers)
    bench.settle()
    assert answers[-1] is None
    assert bench.store.load(A).blob == b"12"


def test_a_callers_bug_does_not_rob_the_others(bench: Bench):
    """A `done` that raises leaves the acknowledgements of its group intact."""
    answers = Answers()

    def wrong(_: Exception | None) -> None:
        raise ZeroDivisionError

    bench.store.save([state(A)], wrong)
    bench.store.save([state(B)], answers)
    with pytest.raises(ZeroDivisionError):
        bench.settle()
    bench.settle()
    assert answers == [None]
