"""Health, metrics, history and the live page. Reads the running stages through `view.View` and changes nothing."""
