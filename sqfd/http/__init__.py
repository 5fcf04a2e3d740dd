"""Health, metrics, history and the live page over HTTP."""
