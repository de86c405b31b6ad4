"""Which daemons there are by name, as text, so that nobody imports what he does not start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["NODE", "SERVICE", "SYSTEM", "TYPES"]

SYSTEM: Final[Mapping[str, str]] = {
    # In the order of start. Persistence first, because what is saved on stop is saved by it;
    # then the log, so that it hears of every other start and stop.
    "persistence": "dan9.daemons.persistence:Persistence",
    "logging": "dan9.daemons.logging:Logging",
    "monitoring": "dan9.daemons.monitoring:Monitoring",
    "timer": "dan9.daemons.timer:Timer",
    "process": "dan9.daemons.process:Process",
    "filesystem": "dan9.daemons.filesystem:Filesystem",
    "network": "dan9.daemons.network:Network",
    "namespace": "dan9.daemons.namespace:Namespace",
    "router": "dan9.daemons.router:Router",
}
"""The system daemons: name and type alike, in group `system`."""

NODE: Final = "dan9.daemons.node:NodeDaemon"
"""The daemon that answers for the node; there whenever the node has a socket."""

SERVICE: Final = "dan9.daemons.service:Service"
"""What a command of dan9.toml (`exec`) becomes."""

TYPES: Final[Mapping[str, str]] = {
    **SYSTEM,
    "device": "dan9.devices.device:VirtualDevice",
    "antikythera": "dan9.antikythera.scheduler:Antikythera",
    "pool": "dan9.daemons.pool:Pool",
    "gesture": "dan9.devices.gesture:GestureDevice",
    "sensor": "dan9.devices.sensor:Sensor",
}
"""What `type =` may say."""
