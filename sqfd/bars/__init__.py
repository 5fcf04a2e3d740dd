"""Trades to 1-second bars per market, and bars to exact flow per symbol. Pure."""
