"""What the transforms of a study act on, as its tables say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sweep.perturb.base import Selection, Transform
from sweep.study.family import Ops


class Selected(NamedTuple):
    """What a transform of a study acts on.

    Attributes:
        at: where its layers are said, and its table.
        transform: which one.
        layers, variables: the selections.
    """

    at: tuple[str, str]
    transform: type[Transform]
    layers: Selection
    variables: Selection


def selections(tables: Mapping[str, Any], ops: Ops) -> list[Selected]:
    """All of them, of the tables that can be understood."""
    found: list[Selected] = []
    for i, family in enumerate(tables.get("family", [])):
        for t, table in enumerate((family or {}).get("perturb", [])):
            if table is None or table.get("op") not in ops:
                continue
            table_at = f"family[{i}].perturb[{t}]"
            at, names = f"{table_at}.layers", [table.get("layers", "*")]
            if isinstance(family.get("sensitivity"), list) and family["sensitivity"]:
                at, names = f"family[{i}].sensitivity", family["sensitivity"]
            transform = ops[table["op"]]
            which = _selection(table.get("variables", transform.variables))
            found += [Selected((at, table_at), transform, _selection(one), which) for one in names]
    return found


def _selection(value: Any) -> Selection:
    return tuple(value) if isinstance(value, list) else value
