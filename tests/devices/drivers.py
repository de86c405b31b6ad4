"""Drivers that tests name from outside."""


class Echo:
    """Answers with what came."""

    def handle(self, event):
        """Return the event's data."""
        return event.data


class NoDriver:
    """Has no method to be a driver by."""


class NeedsMore(Echo):
    """Cannot be made without an argument."""

    def __init__(self, port):
        self.port = port


class Broken:
    """Crashes the device that hands it anything."""

    def handle(self, event):
        """Crash."""
        raise RuntimeError(event.type)
