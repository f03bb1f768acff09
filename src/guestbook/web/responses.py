"""Responses that FastAPI does not have."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse


class IndentedJSONResponse(JSONResponse):
    """JSON with one member a line, for people and for grep."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"
