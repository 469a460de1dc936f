"""What a receiving gateway says when coded bytes cannot be turned back into a data set."""

from __future__ import annotations

from clients.gateway.errors import GatewayError


class CodecError(GatewayError):
    """An image arrived in a form that cannot be restored, and was not used. Ask the sender to send it again."""

    code = "codec"
