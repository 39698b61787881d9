"""The page that shows the description of the API in a browser. All that it loads comes from here, too: a script from
elsewhere would act as whoever has opened it, and there may be no way to elsewhere."""

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

from gateway_server.errors import NotFound

_PACKAGE = "fastapi_swagger"
"""Carries Swagger UI; none of its code is run."""
_STYLE, _PROGRAM, _ICON, _START = "swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png", "start.js"
_HEADERS = {
    # The pictures of Swagger UI stand in its style sheet.
    "content-security-policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}
_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>agent-builder gateway: the API</title>
<link rel="icon" href="docs/{_ICON}">
<link rel="stylesheet" href="docs/{_STYLE}">
</head>
<body>
<div id="api"></div>
<noscript>This page needs JavaScript. What it shows is described by <a href="openapi.json">openapi.json</a>.</noscript>
<script src="docs/{_PROGRAM}"></script>
<script src="docs/{_START}"></script>
</body>
</html>
"""
"""Addresses are relative, as a proxy may give the gateway a path."""
_STARTING = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  deepLinking: true,
  validatorUrl: null,
});
"""


def _carried() -> Path:
    spec = find_spec(_PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "resources"


def routes() -> APIRouter:
    """The routes below /docs."""
    folder = _carried()
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def show_page() -> Response:
        return HTMLResponse(_PAGE, headers=_HEADERS)

    @router.get("/docs/{name}")
    async def show_part(name: str) -> Response:
        if name == _START:
            return Response(_STARTING, media_type="text/javascript", headers=_HEADERS)
        if name not in (_STYLE, _PROGRAM, _ICON):
            raise NotFound(f"There is no /docs/{name}.")
        return FileResponse(folder / name, headers=_HEADERS)

    return router
