"""History from files: trades of Binance's public data, Tardis and aggr-server into the journal, bars out of it.

`formats` (rows → columns), `files` (chunks of lines) and `seconds` (columns → bars) know no journal; `importer` brings them
together, and `derive` makes the flow of a symbol from the bars of all its markets.
"""
