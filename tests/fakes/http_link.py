"""The fake engine's link over the controller's real internal routes."""

from __future__ import annotations

import httpx

from serving.contract import EngineReport, FleetSnapshot, decode_snapshot, encode, engine_token


class HttpLink:
    def __init__(self, *, url: str, cluster_secret: str) -> None:
        token = engine_token(cluster_secret)
        self._http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False
        )

    async def pull(self, *, engine_id: str, after: int, wait: float) -> FleetSnapshot | None:
        response = await self._http.get(
            "/internal/v1/snapshot",
            params={"after": after, "wait": wait, "engine": engine_id},
            timeout=wait + 10.0,
        )
        if response.status_code == httpx.codes.NOT_MODIFIED:
            return None
        return decode_snapshot(response.raise_for_status().content)

    async def report(self, report: EngineReport) -> None:
        path = f"/internal/v1/engines/{report.engine_id}/report"
        response = await self._http.post(path, content=encode(report))
        response.raise_for_status()

    async def aclose(self) -> None:
        await self._http.aclose()
