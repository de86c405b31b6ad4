"""From `module:Class` to the class, with a clear word for each way in which that fails."""

from __future__ import annotations

import importlib
import sys

from dan9.base.errors import BadConfig
from dan9.kernel.daemon import Daemon

__all__ = ["load_class", "search_in"]


def search_in(path: str) -> None:
    """Let imports look into a folder, before all others but after it was done once."""
    if path and path not in sys.path:
        sys.path.insert(0, path)
        importlib.invalidate_caches()


def load_class(target: str, path: str = "") -> type[Daemon]:
    """Import a daemon class.

    Args:
        target: `module:Class`.
        path: A folder to look into first.

    Raises:
        BadConfig: The text is no such pair, the module is not there or fails to import, it has no
            such name, or the name is no daemon class.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name.isidentifier():
        raise BadConfig(f"{target!r} is no module:Class", hint="as shop.till:Till")
    search_in(path)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            where = f" or {path}" if path else ""
            raise BadConfig(
                f"no module {error.name!r}", hint=f"looked in Python's path{where}"
            ) from None
        raise _broken(module_name, error) from error
    except (Exception, SystemExit) as error:
        # Whatever a user's module does when it is imported must not end the node.
        raise _broken(module_name, error) from error
    found = getattr(module, name, None)
    if found is None:
        from dan9.base.forms import nearest

        names = [key for key, one in vars(module).items() if isinstance(one, type)]
        near = nearest(name, names)
        raise BadConfig(
            f"the module {module_name} has no {name!r}",
            hint=f"did you mean {near}?" if near else "",
        )
    if not (isinstance(found, type) and issubclass(found, Daemon)):
        raise BadConfig(f"{target} is no daemon class", hint="derive it from dan9.Daemon")
    return found


def _broken(module_name: str, error: BaseException) -> BadConfig:
    return BadConfig(
        f"importing {module_name} failed: {type(error).__name__}: {error}",
        hint=f"python -c 'import {module_name}' shows where",
    )
