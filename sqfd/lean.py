"""structlog without rich, which it loads where it is installed, for tracebacks in colours that nothing here prints: 3 MB."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import structlog
elif "structlog" in sys.modules or "rich" in sys.modules:
    structlog = import_module("structlog")
else:
    sys.modules["rich"] = None  # what the import system takes for "not installed"
    try:
        structlog = import_module("structlog")
    finally:
        del sys.modules["rich"]

__all__ = ["structlog"]
