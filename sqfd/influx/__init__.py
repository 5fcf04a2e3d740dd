"""InfluxDB 1.x as a sink and as history: line protocol, verdicts, shipper, schema."""
