"""`python -m serving.controller`: one controller process, configured by the environment."""

from __future__ import annotations

import logging
from types import FrameType

import structlog
import uvicorn

from serving.controller.app import create_app
from serving.controller.context import ControllerContext
from serving.controller.surroundings import OpenSurroundings, alone
from serving.settings import ControllerSettings

_DRAIN_SECONDS = 10
"""How long open requests may take to end; long-polls and event streams end at once."""


class Server(uvicorn.Server):
    """Ends those who wait for a change before it waits for open requests."""

    def __init__(self, config: uvicorn.Config, context: ControllerContext) -> None:
        super().__init__(config)
        self._context = context

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        self._context.notifier.close()
        super().handle_exit(sig, frame)


def serve(settings: ControllerSettings, *, surroundings: OpenSurroundings = alone) -> None:
    """Run until SIGINT or SIGTERM; by default as the only controller, on a machine of its own.

    Raises:
        BaseModelError, StoreUnavailable, SettingInvalid: the settings name something that cannot
            be opened.
    """
    _configure_log(settings.log_level)
    app = create_app(settings, surroundings=surroundings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.controller_port,
        log_level=settings.log_level,
        access_log=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    Server(config, app.state.context).run()


def _configure_log(level: str) -> None:
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(number),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Plain: the default shows local variables, and these hold secrets.
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            ),
        ],
    )


def main() -> None:
    """Read the settings from the environment and serve."""
    serve(ControllerSettings.from_environment())


if __name__ == "__main__":
    main()
