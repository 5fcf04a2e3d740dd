"""Prometheus metrics, made from the running stages when they are asked for. Labels: exchange, market, kind, symbol."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from sqfd.http.health import FEED
from sqfd.http.view import View

PREFIX = "sqfd_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DROPPED = ("duplicate", "late", "malformed")
GOOD = {"ok": 1.0, "degraded": 0.5}

Row = tuple[tuple[str, ...], float]


class Metrics:
    """The registry of one daemon."""

    def __init__(self, view: View) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(view))
        ProcessCollector(namespace="sqfd", registry=self._registry)
        GCCollector(registry=_Renamed(self._registry))  # type: ignore[arg-type]  # only `register` is called

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _Renamed:
    """A registry that gives every metric our prefix."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def register(self, collector: Any) -> None:
        self._registry.register(_Prefixed(collector))


class _Prefixed:
    def __init__(self, collector: Any) -> None:
        self._collector = collector

    def collect(self) -> Iterator[Metric]:
        for metric in self._collector.collect():
            metric.name = PREFIX + metric.name
            metric.samples = [
                sample._replace(name=PREFIX + sample.name, labels={"kind": sample.labels["generation"]})
                for sample in metric.samples
            ]
            yield metric


class _Collector:
    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        view = self._view
        yield from _time(view)
        yield from _markets(view)
        yield from _exchanges(view)
        yield from _connections(view)
        yield from _symbols(view)
        yield from _sinks(view)
        yield from _health(view)


def _gauge(name: str, help: str, labels: tuple[str, ...], rows: Iterable[Row]) -> Metric:
    return _filled(GaugeMetricFamily(PREFIX + name, help, labels=labels), rows)


def _count(name: str, help: str, labels: tuple[str, ...], rows: Iterable[Row]) -> Metric:
    return _filled(CounterMetricFamily(PREFIX + name, help, labels=labels), rows)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, rows: Iterable[Row]) -> Metric:
    for labels, value in rows:
        family.add_metric(labels, value)
    return family


def _time(view: View) -> Iterator[Metric]:
    yield _gauge("closed_second_timestamp_seconds", "Newest closed second.", (), [((), view.second)])
    yield _gauge("lag_seconds", "Time since that second ended, on the exchanges' clocks.", (), [((), view.lag_s)])
    yield _count("bars", "Bars handed to the sinks, revisions included.", (), [((), view.bars)])
    yield _count("bars_revised", "Bars that were stored again because trades came late.", (), [((), view.revisions)])
    yield _count("loop_stalls", "Stalls of the event loop longer than 0.25 s.", (), [((), view.stalls.count)])
    yield _gauge("loop_stall_max_seconds", "Longest stall so far.", (), [((), view.stalls.longest_s)])
    offsets = view.seconds.watermark.offsets()
    rows = [((exchange,), ms / 1e3) for exchange, ms in offsets.items()]
    yield _gauge(
        "exchange_offset_seconds", "Least recent delay of trades: clock error and network.", ("exchange",), rows
    )


def _markets(view: View) -> Iterator[Metric]:
    feeds = list(view.intake.markets.values())
    key = ("exchange", "market")
    keys = [(feed.instrument.exchange, feed.instrument.market) for feed in feeds]
    counts = [feed.counts() for feed in feeds]
    for name, help in (
        ("received", "Trades received."),
        ("aggregated", "Trades that entered bars."),
    ):
        rows = [(at, float(getattr(one, name))) for at, one in zip(keys, counts, strict=True)]
        stray = [((id, ""), float(one.malformed)) for id, one in view.intake.exchanges.items() if name == "received"]
        yield _count(f"trades_{name}", help, key, rows + stray)
    dropped: list[Row] = [
        ((*at, kind), float(getattr(one, kind))) for at, one in zip(keys, counts, strict=True) for kind in DROPPED
    ]
    dropped += [((id, "", "malformed"), float(one.malformed)) for id, one in view.intake.exchanges.items()]
    yield _count("trades_dropped", "Trades that entered no bar, by reason.", (*key, "kind"), dropped)
    liquidations = [(at, float(one.liquidations)) for at, one in zip(keys, counts, strict=True)]
    yield _count("liquidations", "Forced orders that entered bars.", key, liquidations)
    late = [(at, float(one.liquidations_late)) for at, one in zip(keys, counts, strict=True)]
    yield _count("liquidations_late", "Forced orders that came too late.", key, late)
    live = [(at, float(feed.ledger.open is None)) for at, feed in zip(keys, feeds, strict=True)]
    yield _gauge("market_live", "1 where the market's feed is live.", key, live)
    rates = [(at, feed.pace.rate_hz or 0.0) for at, feed in zip(keys, feeds, strict=True)]
    yield _gauge("market_trades_per_second", "Usual rate of trades.", key, rates)
    times = [(at, feed.newest_ms / 1e3) for at, feed in zip(keys, feeds, strict=True)]
    yield _gauge("market_last_trade_timestamp_seconds", "Time of the newest trade; 0: none yet.", key, times)


def _exchanges(view: View) -> Iterator[Metric]:
    key = ("exchange", "kind")
    for name, help, attribute in (
        ("rows_excluded", "Rows that are no live trades of collected markets.", "excluded"),
        ("messages_unknown", "Messages whose meaning is not known.", "unknown"),
        ("rows_malformed", "Rows that could not be read.", "malformed_by"),
    ):
        rows = [
            ((id, reason), float(count))
            for id, one in view.intake.exchanges.items()
            for reason, count in getattr(one, attribute).items()
        ]
        yield _count(name, help, key, rows)


def _connections(view: View) -> Iterator[Metric]:
    connections = view.supervisor.status().connections
    states: dict[tuple[str, ...], float] = {}
    connects: dict[tuple[str, ...], float] = {}
    losses: dict[tuple[str, ...], float] = {}
    for one in connections:
        states[one.exchange, one.state] = states.get((one.exchange, one.state), 0.0) + 1
        connects[one.exchange,] = connects.get((one.exchange,), 0.0) + one.connects
        losses[one.exchange,] = losses.get((one.exchange,), 0.0) + one.losses
    yield _gauge("connections", "Planned connections, by state.", ("exchange", "kind"), states.items())
    yield _count("connects", "Connections that were opened.", ("exchange",), connects.items())
    yield _count("connection_losses", "Connections that ended without being asked to.", ("exchange",), losses.items())


def _symbols(view: View) -> Iterator[Metric]:
    prices: list[Row] = []
    values: list[Row] = []
    scores: list[Row] = []
    for symbol in view.symbols:
        brief = view.brief(symbol)
        if "price" in brief:
            prices.append(((symbol,), brief.pop("price")))
        if "score" in brief:
            scores.append(((symbol,), brief.pop("score")))
        values += [((symbol, name), value) for name, value in brief.items()]
    yield _gauge("price", "Index price, quote units.", ("symbol",), prices)
    yield _gauge("score", "Score of the last second, 0 to 10.", ("symbol",), scores)
    yield _gauge("mind", "Numbers of the strategy at the last second, by name.", ("symbol", "kind"), values)
    given = [((symbol, action.lower()), float(count)) for (symbol, action), count in view.signals.items()]
    yield _count("signals", "Signals given.", ("symbol", "kind"), given)


def _sinks(view: View) -> Iterator[Metric]:
    sinks = view.sinks()
    journal = sinks["journal"]
    yield _gauge("journal_queued_rows", "Rows that wait for the disk.", (), [((), journal["queued_rows"])])
    yield _count("journal_lost_rows", "Rows that never reached the disk.", ("kind",), _named(journal["lost"]))
    yield _count(
        "journal_left", "Rows that left the journal early, and the like.", ("kind",), _named(journal["left_early"])
    )
    yield _gauge("journal_append_max_seconds", "Slowest append so far.", (), [((), journal["largest_append_s"])])
    if (influx := sinks.get("influx")) is not None:
        yield _gauge(
            "influx_lag_seconds", "Seconds of bars that InfluxDB has not yet.", (), [((), influx["lag_s"] or 0)]
        )
        yield _count("influx_quarantined", "Lines that InfluxDB refused for ever.", (), [((), influx["quarantined"])])
        yield _count("influx_events", "What happened on the way to InfluxDB.", ("kind",), _named(influx["counters"]))
    if (redis := sinks.get("redis")) is not None:
        yield _gauge("redis_pending_signals", "Signals that wait for Redis.", (), [((), redis["pending"])])
        yield _count("redis_events", "What happened on the way to Redis.", ("kind",), _named(redis["counters"]))
    if (alerts := sinks.get("alerts")) is not None:
        yield _count("alert_events", "What happened to messages.", ("kind",), _named(alerts["counters"]))


def _named(counters: Mapping[str, float]) -> list[Row]:
    return [((name,), float(count)) for name, count in counters.items()]


def _health(view: View) -> Iterator[Metric]:
    found = view.health()
    feeds: list[Row] = []
    parts: list[Row] = [(("all",), {"healthy": 1.0, "degraded": 0.5}.get(found.state, 0.0))]
    for one in found.components:
        value = GOOD.get(one.state, 0.0)
        if one.name.startswith(FEED):
            feeds.append(((one.name.removeprefix(FEED),), value))
        else:
            parts.append(((one.name,), value))
    yield _gauge("health", "1 well, 0.5 degraded, 0 down or starting; `all` is the whole.", ("kind",), parts)
    yield _gauge("feed_health", "The same per exchange.", ("exchange",), feeds)
