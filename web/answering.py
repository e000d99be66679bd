"""JSON that any text survives: ASCII alone, a lone surrogate as its number; what is no number is null."""

from __future__ import annotations

import json
import math
from typing import Any

from fastapi.responses import JSONResponse


class AsciiJSON(JSONResponse):
    def render(self, content: Any) -> bytes:
        return json.dumps(_known(content), ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


def _known(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _known(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_known(one) for one in value]
    return value
