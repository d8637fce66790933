"""Who knocks at this engine: what is derived from the cluster secret to recognise callers by."""

from __future__ import annotations

import hmac

from serving.contract import engine_token, gate_key
from serving.engine.key_hash import KeyHash


class SecretMissing(RuntimeError):
    """Without the cluster secret no key can be recognised."""

    def __init__(self) -> None:
        super().__init__("LORAPLANE_CLUSTER_SECRET is not set")


class Credentials:
    """Of one engine. Bearers are compared in constant time."""

    def __init__(self, cluster_secret: str | None, metrics_token: str | None) -> None:
        """`metrics_token` None or empty: anybody may read the metrics.

        Raises:
            SecretMissing: there is no secret.
        """
        if not cluster_secret:
            raise SecretMissing
        hashed = KeyHash(cluster_secret)
        self.hash_key, self.fingerprint = hashed.hexdigest, hashed.fingerprint
        self.gate_key_hash = self.hash_key(gate_key(cluster_secret))
        self._engine_token = engine_token(cluster_secret).encode()
        self._metrics_token = (metrics_token or "").encode()

    def is_metrics_token(self, token: str) -> bool:
        """Whether this bearer may read the metrics; anybody may where no token is set."""
        wanted = self._metrics_token
        return not wanted or hmac.compare_digest(wanted, token.encode())

    def is_engine_token(self, token: str) -> bool:
        """Whether this bearer is the controller."""
        return hmac.compare_digest(self._engine_token, token.encode())
