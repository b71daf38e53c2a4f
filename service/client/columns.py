"""Values as they go on the wire: any kind of column becomes a list. Imports errors only.

NumPy arrays, pandas and polars series and Arrow arrays all can list their values, so none of these
libraries is imported here. A body is made of the same values in the same order, so it always comes
to the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from service.client.errors import BadInput

_LISTING = ("tolist", "to_list", "to_pylist")


def encoded(body: Mapping[str, Any]) -> bytes:
    """The bytes of a body; raises BadInput for what JSON cannot hold, NaN and infinities too."""
    try:
        return json.dumps(body, default=plain, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        told = "the body is no JSON; send None where a number is absent"
        raise BadInput(f"{told} ({error})") from error


def plain(value: Any) -> Any:
    """A column or scalar of another library, a moment or a mapping in plain Python values."""
    for name in _LISTING:
        if callable(listing := getattr(value, name, None)):
            return listing()
    if isinstance(value, date):  # and so a datetime, or a timestamp of pandas
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    kind = type(value).__name__
    raise BadInput(f"a {kind} cannot be sent; send lists, arrays or series, frames by an adapter")
