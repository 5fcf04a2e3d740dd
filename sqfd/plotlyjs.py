"""Where plotly.js is: the Python package brings it. Importing plotly would take half a second and its memory; only its folder is needed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def plotly_js() -> Path:
    """The minified library on disk. Raises FileNotFoundError where plotly is not installed."""
    spec = find_spec("plotly")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("plotly is not installed: reinstall sqfd with its dependencies")
    return Path(spec.origin).parent / "package_data" / "plotly.min.js"
