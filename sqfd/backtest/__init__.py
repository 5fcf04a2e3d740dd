"""Backtests: the live engine over blocks of stored flow, a paper portfolio, statistics and reports."""
