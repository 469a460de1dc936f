"""Lossless coding of instances: smaller on the way, the same bytes at the end. See docs/spec/codecs.md."""

from clients.gateway.codec.coding import MAX_ORIGINAL, Coded, decode, encode
from clients.gateway.codec.errors import CodecError

__all__ = ["MAX_ORIGINAL", "CodecError", "Coded", "decode", "encode"]
