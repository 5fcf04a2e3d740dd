"""Section [influx]."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class InfluxSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where InfluxDB 1.x is and how it is written. The section's presence turns the sink on."""

    server: Annotated[
        Literal["influxdb", "victoria-metrics"],
        Meta(description="What answers there; VictoriaMetrics takes bars, but has no schema, rollups or InfluxQL."),
    ] = "influxdb"
    url: Annotated[
        str,
        Meta(
            description="Base address such as http://db:8086; empty: made of host and port.",
            pattern=r"^(https?://\S+)?$",
        ),
    ] = ""
    host: Annotated[str, Meta(description="Host name or address of InfluxDB.", min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(description="Port of InfluxDB's HTTP interface.", ge=1, le=65_535)] = 8086
    database: Annotated[
        str, Meta(description="Database that is written, and created if missing.", pattern=r"^[A-Za-z0-9_.\-]{1,64}$")
    ] = "significant_trades"
    username: Annotated[str, Meta(description="Login; empty: none.")] = ""
    password: Annotated[str, Meta(description="Password of that login; better given by INFLUX_PASSWORD_FILE.")] = ""
    timeout_s: Annotated[float, Meta(description="Seconds that one request may take.", ge=0.1, le=300)] = 10.0
    gzip: Annotated[bool | None, Meta(description="Compress bodies; unset: unless InfluxDB is on this host.")] = None
    batch_lines: Annotated[int, Meta(description="Most lines in one write.", ge=1, le=5_000)] = 5_000
    batch_bytes: Annotated[int, Meta(description="Most bytes in one write.", ge=1_000, le=1_000_000)] = 1_000_000
    backoff_min_s: Annotated[float, Meta(description="First wait after a failed write.", ge=0.01, le=10)] = 0.2
    backoff_max_s: Annotated[float, Meta(description="Longest wait after failed writes.", ge=0.1, le=600)] = 30.0
    poll_s: Annotated[
        float, Meta(description="Seconds between looks for new bars when all is shipped.", ge=0.01, le=10)
    ] = 0.1
    rollup_delay_s: Annotated[
        float,
        Meta(
            description="Seconds that revised ranges are gathered before their rollups are made again.", ge=0.1, le=600
        ),
    ] = 10.0
    raw_measurement: Annotated[
        str,
        Meta(
            description="Measurement of raw trades that cq_trades_1s turns into bars; empty: sqfd writes the bars itself."
        ),
    ] = ""
    create_schema: Annotated[
        bool, Meta(description="Create database, retention policies and continuous queries where they are missing.")
    ] = True
    retain_1s_days: Annotated[int, Meta(description="Days that 1-second bars are kept; 0: for ever.", ge=0)] = 30
    retain_1m_days: Annotated[int, Meta(description="Days that 1-minute bars are kept; 0: for ever.", ge=0)] = 90
    retain_5m_days: Annotated[int, Meta(description="Days that 5-minute bars are kept; 0: for ever.", ge=0)] = 180
    retain_15m_days: Annotated[int, Meta(description="Days that 15-minute bars are kept; 0: for ever.", ge=0)] = 365
    retain_30m_days: Annotated[int, Meta(description="Days that 30-minute bars are kept; 0: for ever.", ge=0)] = 365
    retain_1h_days: Annotated[int, Meta(description="Days that 1-hour bars are kept; 0: for ever.", ge=0)] = 0
    retain_4h_days: Annotated[int, Meta(description="Days that 4-hour bars are kept; 0: for ever.", ge=0)] = 0

    @property
    def influxql(self) -> bool:
        """It can be asked, not only written to."""
        return self.server == "influxdb"

    @property
    def base_url(self) -> str:
        """Address without a slash at its end."""
        return (self.url or f"http://{self.host}:{self.port}").rstrip("/")

    def retention_days(self, timeframe: str) -> int:
        """Days that bars of `1s 1m 5m 15m 30m 1h 4h` are kept; 0: for ever."""
        return int(getattr(self, f"retain_{timeframe}_days"))
