"""sqfd: trade feeds of 25 exchanges → 1-second bars → InfluxDB and SqueezeFlow signals on Redis, in one asyncio process.

A tour, in reading order (ten minutes):

1. `sqfd.daemon`    the only place where stages are wired together; reads as a table of contents
   (`sqfd.collector` is everything up to a closed second, `sqfd.sinks` everything after it)
2. `sqfd.engine`    one closed second in, signals out: pure, the same object live and in backtests
3. `sqfd.feed.session`  one connection to an exchange without any I/O
4. `exchanges.binance`  what one exchange's frames mean; the other exchanges have the same shape
5. `sqfd.strategy.divergence`  one of the five phases, a pure function over columns of ticks

`sqfd.model` has the values that flow between them; `docs/architecture.md` has the picture.
"""

__version__ = "0.1.0"
