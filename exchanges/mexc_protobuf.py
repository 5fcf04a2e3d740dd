"""The protobuf messages of MEXC's spot socket that carry trades.

Field names and numbers are the exchange's published ones. The descriptor is built here from a table rather than generated,
so that it can be read and checked; fields that it leaves out are skipped by the parser.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "mexc"
INT32, INT64, STRING, MESSAGE = (
    getattr(FieldDescriptorProto, f"TYPE_{n}") for n in ("INT32", "INT64", "STRING", "MESSAGE")
)

MESSAGES: dict[str, tuple[tuple[int, str, int, str], ...]] = {
    "Deal": (
        (1, "price", STRING, ""),
        (2, "quantity", STRING, ""),
        (3, "tradeType", INT32, ""),  # 1: the taker bought, 2: it sold
        (4, "time", INT64, ""),  # ms
    ),
    "Deals": (
        (1, "deals", MESSAGE, "repeated Deal"),
        (2, "eventType", STRING, ""),
    ),
    "Wrapper": (
        (1, "channel", STRING, ""),
        (3, "symbol", STRING, ""),
        (6, "sendTime", INT64, ""),  # ms
        (314, "publicAggreDeals", MESSAGE, "Deals"),
    ),
}
"""Message → (field number, name, type, message type of the field, `repeated` before it where there are many)."""


def _build() -> DescriptorPool:
    """A pool of its own: the process-wide one would clash with other users of the same names."""
    file = FileDescriptorProto(name="mexc.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = DescriptorProto(name=name)
        for number, field, kind, of in fields:
            repeated, _, target = of.rpartition(" ")
            added = message.field.add(name=field, number=number, type=kind)
            added.label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
            if target:
                added.type_name = f".{PACKAGE}.{target}"
        file.message_type.append(message)
    pool = DescriptorPool()
    pool.Add(file)
    return pool


_pool = _build()
Wrapper: Any = GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.Wrapper"))
"""What every binary frame of the socket is; `publicAggreDeals.deals` are the trades."""
