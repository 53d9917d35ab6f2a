"""google.protobuf.BytesValue by hand: one field, number 1, of bytes."""


def encode(value):
    if not value:
        return b""
    length, out = len(value), bytearray([0x0A])
    while length >= 0x80:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out) + value


def decode(message):
    if not message:
        return b""
    if message[0] != 0x0A:
        raise ValueError(f"not a BytesValue: it begins with {message[:8]!r}")
    length = shift = 0
    at = 1
    while True:
        octet = message[at]
        length |= (octet & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not octet & 0x80:
            break
    if at + length != len(message):
        raise ValueError(f"{len(message) - at} octets where {length} were said")
    return message[at:]
