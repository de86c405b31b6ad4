"""Dan9: everything is a daemon.

The public names, each imported on first use (PEP 562), so that `import dan9` costs
next to nothing and a client that only talks to a node never loads the kernel.
"""

from __future__ import annotations

import importlib
import os

TYPE_CHECKING = False  # typing.TYPE_CHECKING by name: typing itself costs half of the import
if TYPE_CHECKING:
    from typing import Any

    from dan9.base.duration import Duration, Time
    from dan9.base.errors import (
        AddressInUse,
        AskCycle,
        BadAddress,
        BadConfig,
        BadPayload,
        DaemonFailed,
        Dan9Error,
        MailboxFull,
        NotAllowed,
        NotFound,
        NotRunning,
        Refused,
        TimedOut,
        UnknownDaemon,
        UnknownMessage,
    )
    from dan9.base.reasons import Reason
    from dan9.edge.aio import connect_async
    from dan9.edge.client import Client, connect
    from dan9.kernel.clock import ScaledClock, SystemClock, VirtualClock
    from dan9.kernel.daemon import Config, Daemon, cron, every, on
    from dan9.kernel.kernel import System, current_message, gather
    from dan9.kernel.links import Down
    from dan9.kernel.log import log_critical, log_debug, log_error, log_info, log_warning
    from dan9.kernel.message import Message
    from dan9.kernel.metrics import count, gauge, observe
    from dan9.kernel.ref import Ref
    from dan9.kernel.restart import Backoff
    from dan9.kernel.subscription import Subscription
    from dan9.kernel.supervisor import ChildSpec, Supervisor

if os.environ.get("DAN9_PURE") == "1":  # the kernel's sources although it is compiled
    from dan9._pure import prefer_sources

    prefer_sources()

__version__ = "0.1.0"

_ERRORS = (
    "AddressInUse",
    "AskCycle",
    "BadAddress",
    "BadConfig",
    "BadPayload",
    "DaemonFailed",
    "Dan9Error",
    "MailboxFull",
    "NotAllowed",
    "NotFound",
    "NotRunning",
    "Refused",
    "TimedOut",
    "UnknownDaemon",
    "UnknownMessage",
)
_HOMES = {
    **dict.fromkeys(_ERRORS, "dan9.base.errors"),
    "Backoff": "dan9.kernel.restart",
    "ChildSpec": "dan9.kernel.supervisor",
    "Client": "dan9.edge.client",
    "Config": "dan9.kernel.daemon",
    "Daemon": "dan9.kernel.daemon",
    "Down": "dan9.kernel.links",
    "Duration": "dan9.base.duration",
    "Message": "dan9.kernel.message",
    "Reason": "dan9.base.reasons",
    "Ref": "dan9.kernel.ref",
    "ScaledClock": "dan9.kernel.clock",
    "Subscription": "dan9.kernel.subscription",
    "Supervisor": "dan9.kernel.supervisor",
    "System": "dan9.kernel.kernel",
    "SystemClock": "dan9.kernel.clock",
    "Time": "dan9.base.duration",
    "VirtualClock": "dan9.kernel.clock",
    "connect": "dan9.edge.client",
    "connect_async": "dan9.edge.aio",
    "count": "dan9.kernel.metrics",
    "cron": "dan9.kernel.daemon",
    "current_message": "dan9.kernel.kernel",
    "every": "dan9.kernel.daemon",
    "gather": "dan9.kernel.kernel",
    "gauge": "dan9.kernel.metrics",
    "log_critical": "dan9.kernel.log",
    "log_debug": "dan9.kernel.log",
    "log_error": "dan9.kernel.log",
    "log_info": "dan9.kernel.log",
    "log_warning": "dan9.kernel.log",
    "observe": "dan9.kernel.metrics",
    "on": "dan9.kernel.daemon",
}

__all__ = [
    "AddressInUse",
    "AskCycle",
    "Backoff",
    "BadAddress",
    "BadConfig",
    "BadPayload",
    "ChildSpec",
    "Client",
    "Config",
    "Daemon",
    "DaemonFailed",
    "Dan9Error",
    "Down",
    "Duration",
    "MailboxFull",
    "Message",
    "NotAllowed",
    "NotFound",
    "NotRunning",
    "Reason",
    "Ref",
    "Refused",
    "ScaledClock",
    "Subscription",
    "Supervisor",
    "System",
    "SystemClock",
    "Time",
    "TimedOut",
    "UnknownDaemon",
    "UnknownMessage",
    "VirtualClock",
    "connect",
    "connect_async",
    "count",
    "cron",
    "current_message",
    "every",
    "gather",
    "gauge",
    "log_critical",
    "log_debug",
    "log_error",
    "log_info",
    "log_warning",
    "observe",
    "on",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'dan9' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
