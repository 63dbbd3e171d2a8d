"""The commands about features that are kept: `provenet cache list|prune`."""

import json as json_module
from typing import Annotated, Any

from cyclopts import App, Parameter

Flag = Annotated[bool, Parameter(negative="", show_default=False)]

cache = App(
    name="cache",
    help="Features of pictures, computed once and kept for the next head: what there is, and what may go.",
    result_action="return_value",
    help_format="plaintext",
)


@cache.command
def list(*, json: Flag = False) -> None:
    """List what is kept: network and cut, rows (a picture, or a distorted view of one), size, and when it was last used.

    Args:
        json: Print {folder, bytes, limit_bytes, caches: [{key, network, cut, shape, type, engine, precision, weights, rows, bytes, used,
            folder}]} as JSON.
    """
    from provenet.transfer.caches import limit_bytes, list_caches, show_caches, stores_folder

    found, limit = list_caches(), limit_bytes()
    if json:
        total = sum(each.size_bytes for each in found)
        _print_json({"folder": str(stores_folder()), "bytes": total, "limit_bytes": limit, "caches": [each.to_dict() for each in found]})
    else:
        print(show_caches(found, limit))


@cache.command
def prune(*keys: str, older_than: float | None = None, all: Flag = False, json: Flag = False) -> None:
    """Remove what is kept; whatever is in use stays, and what is removed is computed anew when it is needed.

    Args:
        keys: Those of `provenet cache list`.
        older_than: All that was not used for so many days.
        all: Everything.
        json: Print {gone, in_use, freed_bytes} as JSON.
    """
    from provenet.transfer.caches import prune as remove

    pruned = remove(keys, older_than_days=older_than, everything=all)
    if json:
        gone, in_use = ([each.key for each in some] for some in (pruned.gone, pruned.in_use))
        _print_json({"gone": gone, "in_use": in_use, "freed_bytes": pruned.freed_bytes})
        return
    print(f"{len(pruned.gone)} removed, {pruned.freed_bytes / 1e6:,.1f} MB freed")
    for each in pruned.in_use:
        print(f"{each.key} is in use and stays")


def _print_json(value: Any) -> None:
    print(json_module.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))
