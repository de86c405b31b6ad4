"""Until when asks wait: a deadline that costs two links.

Most asks are answered long before their deadline, so it is a place in the bucket of its
quarter second. Only what is still there when the bucket's time comes gets a timer of its own,
so that the moment is exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from dan9.kernel.message import Ask
    from dan9.kernel.scheduler import Scheduler

__all__ = ["Deadlines"]

BUCKET_S: Final = 0.25


@final
class Bucket:
    """The asks whose deadlines fall into the same quarter of a second."""

    __slots__ = ("first", "start")

    def __init__(self, start: float) -> None:
        self.start = start
        self.first: Ask | None = None


@final
class Deadlines:
    """The deadlines of all asks under way in one system."""

    __slots__ = ("buckets", "hot", "scheduler")

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.buckets: dict[int, Bucket] = {}
        self.hot: Bucket | None = None  # the one that was last put into

    def watch(self, ask: Ask) -> None:
        """Have the ask time out at `ask.until`."""
        until = ask.until
        hot = self.hot
        if hot is None or until < hot.start or until >= hot.start + BUCKET_S:
            hot = self.bucket_of(until)
            if hot is None:
                self.call_exactly(ask)
                return
        first = hot.first
        ask.bucket = hot
        ask.later = first
        ask.earlier = None
        if first is not None:
            first.earlier = ask
        hot.first = ask

    def forget(self, ask: Ask) -> None:
        """Unlink an ask that was answered in time."""
        bucket = ask.bucket
        ask.bucket = None
        if isinstance(bucket, Bucket):
            later, earlier = ask.later, ask.earlier
            if earlier is None:
                bucket.first = later
            else:
                earlier.later = later
            if later is not None:
                later.earlier = earlier
            ask.later = None
            ask.earlier = None
        elif ask.rare is not None and ask.rare.timer is not None:
            ask.rare.timer.cancel()
            ask.rare.timer = None

    def bucket_of(self, until: float) -> Bucket | None:
        """Return the bucket of a moment; None if its time has come already."""
        index = int(until / BUCKET_S)
        start = index * BUCKET_S
        if start <= self.scheduler.now:
            return None
        bucket = self.buckets.get(index)
        if bucket is None:
            bucket = Bucket(start)
            self.buckets[index] = bucket
            self.scheduler.call_at(start, lambda: self.open(index))
        self.hot = bucket
        return bucket

    def open(self, index: int) -> None:
        """The bucket's time has come: give what is left an exact timer each."""
        bucket = self.buckets.pop(index)
        if self.hot is bucket:
            self.hot = None
        late: list[Ask] = []
        ask = bucket.first
        bucket.first = None
        while ask is not None:
            following = ask.later
            ask.bucket = None
            ask.later = None
            ask.earlier = None
            late.append(ask)
            ask = following
        late.reverse()
        for one in late:
            self.call_exactly(one)

    def call_exactly(self, ask: Ask) -> None:
        """Give one ask a timer of its own."""
        scheduler = self.scheduler
        ask.more().timer = scheduler.call_at(ask.until, lambda: scheduler.expire(ask))
        ask.bucket = self
