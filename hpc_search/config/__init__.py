"""Search, profile and point files: strict YAML in, typed records out, every problem at once.

PyYAML is imported when a file is read, not before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hpc_search.config.catalog import Chosen
    from hpc_search.config.dump import dump_search
    from hpc_search.config.places import placed, problems_at
    from hpc_search.config.point import PointFile, dump_point, load_point
    from hpc_search.config.points import Elsewhere
    from hpc_search.config.profile import Profile, dump_profile, load_profile, profile_with
    from hpc_search.config.search import load_search, parse_search, rule_lines
    from hpc_search.config.start import NOTHING, Asked

__all__ = [
    "NOTHING",
    "Asked",
    "Chosen",
    "Elsewhere",
    "PointFile",
    "Profile",
    "dump_point",
    "dump_profile",
    "dump_search",
    "load_point",
    "load_profile",
    "load_search",
    "parse_search",
    "placed",
    "problems_at",
    "profile_with",
    "rule_lines",
]

#: Module -> what it gives. A record of a profile is read without all that reads searches.
_MODULES: Final = {
    "catalog": "Chosen",
    "dump": "dump_search",
    "places": "placed problems_at",
    "point": "PointFile dump_point load_point",
    "points": "Elsewhere",
    "profile": "Profile dump_profile load_profile profile_with",
    "search": "load_search parse_search rule_lines",
    "start": "NOTHING Asked",
}
_MODULE_OF: Final = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
