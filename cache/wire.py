"""The protobuf wire format, as much of it as keys and results need.

Keys are computed for every node of every run, and importing protobuf alone costs more than
keying a hundred nodes. The messages are those of remote_execution.proto; tests hold every byte
against the code that protobuf generates from it. Source of the format:
https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from cache.errors import CorruptBlob

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_MAX_FIELD = (1 << 29) - 1

Fields = dict[int, list[int | bytes]]
_NONE: list[int | bytes] = [b""]
_ZERO: list[int | bytes] = [0]


def varint(value: int) -> bytes:
    """Return an unsigned integer in base 128, least significant group first."""
    if value < 0x80:
        return _ONE_BYTE[value]
    if value < 0x4000:
        return b"%c%c" % (value & 0x7F | 0x80, value >> 7)
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, payload: bytes) -> bytes:
    """Return a length-delimited field (bytes, string or message), present even if empty."""
    tag, size = number << 3 | _BYTES, len(payload)
    if tag < 0x80 and size < 0x80:
        return b"%c%c%b" % (tag, size, payload)
    return varint(tag) + varint(size) + payload


def unsigned(number: int, value: int) -> bytes:
    """Return an unsigned integer field, absent if 0."""
    return varint(number << 3 | _VARINT) + varint(value) if value else b""


def parse(data: bytes) -> Fields:
    """Return the values of each field in the order they were given, by field number.

    A value is an int (varint), or bytes (length-delimited, fixed 32 or fixed 64).

    Raises:
        CorruptBlob: the bytes are no message.
    """
    fields: Fields = {}
    position, end = 0, len(data)
    while position < end:
        tag = data[position]
        if tag < 0x80:
            position += 1
        else:
            tag, position = _varint_at(data, position)
        number, wire_type = tag >> 3, tag & 7
        value: int | bytes
        if wire_type == _VARINT:
            value, position = _varint_at(data, position)
        else:
            if wire_type == _BYTES:
                if position < end and (size := data[position]) < 0x80:
                    position += 1
                else:
                    size, position = _varint_at(data, position)
            else:
                size = _FIXED_SIZES.get(wire_type, end)  # no group is in any message of the API
            value = data[position : position + size]
            position += size
        if position > end or not 0 < number <= _MAX_FIELD:
            raise _malformed()
        if number in fields:
            fields[number].append(value)
        else:
            fields[number] = [value]
    return fields


def messages(fields: Fields, number: int) -> list[bytes]:
    """Return the payloads of a repeated length-delimited field.

    Raises:
        CorruptBlob: the field is of another type.
    """
    values = fields.get(number, ())
    payloads = [value for value in values if isinstance(value, bytes)]
    if len(payloads) != len(values):
        raise _malformed()
    return payloads


def message(fields: Fields, number: int) -> bytes:
    """Return the payload of a single message field, empty when absent; given twice, it merges."""
    values = fields.get(number, _NONE)
    value = values[0]
    if len(values) == 1 and isinstance(value, bytes):
        return value
    return b"".join(messages(fields, number))


def string(fields: Fields, number: int) -> str:
    """Return a single text field, empty when absent; given twice, the last one counts.

    Raises:
        CorruptBlob: the field is no UTF-8 text.
    """
    value = fields.get(number, _NONE)[-1]
    if not isinstance(value, bytes):
        raise _malformed()
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _malformed() from None


def integer(fields: Fields, number: int) -> int:
    """Return a single int64 field, 0 when absent; given twice, the last one counts.

    Raises:
        CorruptBlob: the field is of another type.
    """
    value = fields.get(number, _ZERO)[-1]
    if not isinstance(value, int):
        raise _malformed()
    return value - (1 << 64) if value >= 1 << 63 else value


def _varint_at(data: bytes, position: int) -> tuple[int, int]:
    """Return the varint at a position, and where it ends."""
    if position < len(data) and data[position] < 0x80:
        return data[position], position + 1
    if position + 1 < len(data) and data[position + 1] < 0x80:
        return data[position] & 0x7F | data[position + 1] << 7, position + 2
    value = shift = 0
    for byte in data[position : position + 10]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position + shift // 7
    raise _malformed()


def _malformed() -> CorruptBlob:
    return CorruptBlob("not a message of the Remote Execution API")


_ONE_BYTE = [bytes((value,)) for value in range(0x80)]
