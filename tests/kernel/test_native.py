"""`Bound`, `step` and `throw`, in C and in plain Python: one contract.

On the compiled kernel both are tried, on its source the plain ones alone.
"""

import asyncio
import contextvars
import gc
import sys
import traceback
import weakref

import pytest

from dan9 import Daemon, MailboxFull, Refused, on
from dan9.kernel import native, plain
from dan9.kernel.hand import ENDED
from dan9.testing import run, system

BOUNDS = {"native": native.Bound, "plain": plain.Bound}
MODULES = {"native": native, "plain": plain}
COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


class Listener(Daemon, mailbox=3):
    """Answers with what it got."""

    heard: int = 0

    @on
    def hear(self, a: object = "a", b: object = "b", *, c: object = "c") -> list:
        """Answer with the arguments."""
        self.heard += 1
        return [a, b, c]

    @on
    def count(self) -> int:
        """Answer how many messages there were."""
        return self.heard


@pytest.fixture(params=sorted(BOUNDS))
def bind(request):
    """How to bind a message of a ref."""

    def bind(ref, name):
        cell = ref._d9_cell
        return BOUNDS[request.param](cell, cell.home.behaviour.names[name])

    return bind


class Carrying:
    """A hand whose coroutines are stepped by one of the two modules, one after another."""

    def __init__(self, module, ref):
        self.module = module
        self.hand = native.CoroutineHand(ref._d9_cell, None, None, None)
        self.hand.pristine = self.hand.context.copy()

    def begin(self, coroutine):
        """Take a coroutine in hand and make its first step."""
        self.hand.coroutine = coroutine
        return self.step(None)

    def step(self, value):
        """Go on."""
        return self.module.step(self.hand, value)

    def throw(self, error):
        """Raise."""
        return self.module.throw(self.hand, error)


@pytest.fixture(params=sorted(MODULES))
def carry(request):
    """How to take coroutines in hand."""

    def carry(ref):
        carrying = Carrying(MODULES[request.param], ref)
        return carrying.hand, carrying

    return carry


def with_listener(body):
    """Run `body(ref)` with a listener."""

    async def main():
        async with system(copy=False) as s:
            result = body(await s.spawn(Listener, "listener"))
            return await result if asyncio.iscoroutine(result) else result

    return run(main)


# -- Bound ---------------------------------------------------------------------------------


CALLS = [
    ((), {}, ["a", "b", "c"]),
    ((1,), {}, [1, "b", "c"]),
    ((None,), {}, [None, "b", "c"]),
    (((1, 2),), {}, [(1, 2), "b", "c"]),
    ((1, 2), {}, [1, 2, "c"]),
    ((), {"b": 2}, ["a", 2, "c"]),
    ((1,), {"c": 3}, [1, "b", 3]),
    ((1, 2), {"c": 3}, [1, 2, 3]),
]


@pytest.mark.parametrize(("args", "kwargs", "heard"), CALLS)
def test_arguments_arrive(bind, args, kwargs, heard):
    """By place, by name, both, or none."""

    async def body(ref):
        return await bind(ref, "hear")(*args, **kwargs)

    assert with_listener(body) == heard


@pytest.mark.parametrize(("args", "kwargs", "heard"), CALLS)
def test_tell_and_send_carry_the_same(bind, args, kwargs, heard):
    """An ask, a tell and a send carry what they were called with."""

    def body(ref):
        bound = bind(ref, "hear")
        expected = (args, kwargs)
        assert bound(*args, **kwargs).arguments() == expected
        assert bound.send(*args, **kwargs).carries.arguments() == expected
        bound.tell(*args, **kwargs)
        assert ref._d9_cell.head.arguments() == expected

    with_listener(body)


def test_wrong_arguments_are_refused_by_name(bind):
    """What does not bind is the asker's mistake, not a crash."""

    async def body(ref):
        with pytest.raises(Refused):
            await bind(ref, "hear")(1, 2, 3)
        with pytest.raises(Refused):
            await bind(ref, "hear")(colour="red")
        return await ref.count()

    assert with_listener(body) == 0


def test_a_full_mailbox_is_said(bind):
    """`tell` raises, and what was told before is handled."""

    async def body(ref):
        bound = bind(ref, "hear")
        for _ in range(3):
            bound.tell(1)
        with pytest.raises(MailboxFull):
            bound.tell(1)
        await asyncio.sleep(0)
        return await ref.count()

    assert with_listener(body) == 3


def test_within_gives_a_deadline(bind):
    """In seconds, in text, or none at all."""

    def body(ref):
        bound = bind(ref, "hear")
        assert bound.timeout_s == -1.0
        assert bound.within("250ms").timeout_s == 0.25
        assert bound.within(2).timeout_s == 2.0
        assert bound.within(None).timeout_s == float("inf")
        assert bound.within(2)(1).timeout_s == 2.0
        with pytest.raises(Exception, match="soon"):
            bound.within("soon")
        assert (bound.cell, bound.verb.type) == (ref._d9_cell, "hear")
        assert repr(bound) == "<hear of d9://listener/default/listener>"

    with_listener(body)


def test_what_is_said_is_not_kept(bind):
    """An argument and an ask are free once the message is handled."""

    class Load:
        pass

    async def body(ref):
        bound, load = bind(ref, "hear"), Load()
        count, free = sys.getrefcount(load), weakref.ref(load)
        for args, kwargs in (((load,), {}), ((load, load), {}), ((), {"a": load})):
            for _ in range(3):
                bound.tell(*args, **kwargs)
            await ref.count()
            ask = bound(*args, **kwargs)
            del ask
            with pytest.raises(MailboxFull):
                for _ in range(4):
                    bound.tell(*args, **kwargs)
            await asyncio.sleep(0)
            await ref.count()
        del args, kwargs
        assert sys.getrefcount(load) == count
        del load
        gc.collect()
        return free()

    assert with_listener(body) is None


def test_a_bound_message_does_not_keep_its_ref_alive(bind):
    """The cycle of a ref and what it holds in its `__dict__` is found by the collector."""

    def body(ref):
        gone = weakref.ref(other := type(ref)(ref._d9_cell))
        other.own = [bind(other, "hear"), other]
        del other
        gc.collect()
        assert gone() is None

    with_listener(body)


# -- step and throw -------------------------------------------------------------------------------


async def giving(value):
    """End at once."""
    return value


async def failing():
    """Raise at once."""
    raise LookupError("failing on request")


class Wait:
    """What a coroutine awaits: the step gives it out."""

    def __await__(self):
        return (yield self)


def test_a_coroutine_is_carried_to_its_end(carry):
    """Its first step begins it; each further one gives it a value; the outcome is the hand's."""

    async def adding(wait):
        return await wait + await wait

    def body(ref):
        hand, carrier = carry(ref)
        wait = Wait()
        assert carrier.begin(adding(wait)) is wait
        assert carrier.step(1) is wait
        assert carrier.step(2) is ENDED
        assert (hand.result_, hand.error, hand.kept) == (3, None, False)
        assert carrier.begin(giving("next")) is ENDED
        assert hand.result_ == "next"

    with_listener(body)


@pytest.mark.parametrize("value", [None, (1, 2), StopIteration(5), ENDED])
def test_any_value_is_passed_on(carry, value):
    """Values that a StopIteration would take apart included."""

    def body(ref):
        hand, carrier = carry(ref)
        assert carrier.begin(giving(value)) is ENDED
        assert hand.result_ is value

    with_listener(body)


def test_an_exception_is_the_outcome(carry):
    """With the traceback of the coroutine; even one that no handler may catch."""

    async def exiting(kind):
        raise kind

    def body(ref):
        hand, carrier = carry(ref)
        assert carrier.begin(failing()) is ENDED
        assert isinstance(hand.error, LookupError)
        assert "raise LookupError" in "".join(traceback.format_exception(hand.error))
        for kind in (asyncio.CancelledError, KeyboardInterrupt, SystemExit, StopIteration):
            assert carrier.begin(exiting(kind)) is ENDED
            assert isinstance(hand.error, RuntimeError if kind is StopIteration else kind)

    with_listener(body)


def test_an_error_can_be_thrown_in(carry):
    """It is raised where the coroutine waits, and may be caught, ended by, or passed on."""

    async def waiting(wait, caught):
        try:
            return await wait
        except KeyError as error:
            if caught == "again":
                return await wait
            if caught == "ended":
                return str(error)
            raise

    def body(ref):
        hand, carrier = carry(ref)
        wait = Wait()
        carrier.begin(waiting(wait, "again"))
        assert carrier.throw(KeyError("x")) is wait
        assert carrier.step("value") is ENDED
        assert hand.result_ == "value"
        carrier.begin(waiting(wait, "ended"))
        assert carrier.throw(KeyError("x")) is ENDED
        assert hand.result_ == "'x'"
        assert hand.error is None
        carrier.begin(waiting(wait, "raised"))
        error = KeyError("x")
        assert carrier.throw(error) is ENDED
        assert hand.error is error

    with_listener(body)


def test_what_is_thrown_in_before_the_first_step_ends_it(carry):
    """A handler that is cancelled before it has begun never does."""
    begun = []

    async def beginning():
        begun.append(True)

    def body(ref):
        hand, carrier = carry(ref)
        hand.coroutine = beginning()
        error = asyncio.CancelledError()
        assert carrier.throw(error) is ENDED
        assert hand.error is error

    with_listener(body)
    assert not begun


def test_only_a_spare_hand_is_marked(carry):
    """One without a pristine context is a coroutine's for good, and nobody asks."""

    async def colouring():
        COLOUR.set("red")

    def body(ref):
        hand, carrier = carry(ref)
        hand.pristine = None
        assert carrier.begin(colouring()) is ENDED
        assert not hand.kept

    with_listener(body)


def test_a_step_is_made_in_the_hands_context(carry):
    """What a coroutine sets is unknown outside, and marks the hand as the coroutine's for good."""

    async def colouring(wait):
        before = COLOUR.get()
        COLOUR.set("red")
        await wait
        return before, COLOUR.get()

    def body(ref):
        token = COLOUR.set("blue")
        hand, carrier = carry(ref)
        COLOUR.reset(token)
        assert carrier.begin(giving(COLOUR)) is ENDED
        assert not hand.kept
        carrier.begin(colouring(Wait()))
        assert COLOUR.get() == "none"
        assert carrier.step(None) is ENDED
        assert hand.result_ == ("blue", "red")
        assert hand.kept

    with_listener(body)


def test_a_coroutine_that_is_let_go_is_closed(carry):
    """Its `finally` runs when its hand is forgotten."""
    closed = []

    async def waiting():
        try:
            await Wait()
        finally:
            closed.append(True)

    def body(ref):
        hand, carrier = carry(ref)
        carrier.begin(waiting())
        del hand, carrier
        gc.collect()

    with_listener(body)
    assert closed == [True]


@pytest.mark.skipif(native.Bound is plain.Bound, reason="the kernel is not compiled")
def test_c_takes_only_what_it_knows():
    """It reads the fields of cells, verbs and hands, so it is given nothing else."""

    def body(ref):
        cell = ref._d9_cell
        for wrong in ((), (cell,), (cell, "hear"), ("cell", cell.home.behaviour.order[0])):
            with pytest.raises(TypeError):
                native.Bound(*wrong)
        hand = native.CoroutineHand(cell, None, None, None)
        for function in (native.step, native.throw):
            for wrong in ((), (hand,), (hand, None, None), (cell, None), ("hand", None)):
                with pytest.raises(TypeError):
                    function(*wrong)

    with_listener(body)
