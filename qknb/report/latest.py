"""Widgets that keep up: of many requests to draw, the latest is drawn, once."""

import asyncio
from collections.abc import Callable

__all__ = ["latest"]

DELAY = 0.015  # seconds in which requests that are waiting already come together


def latest(draw: Callable[[], None]) -> Callable[[], None]:
    """A function that asks for `draw`: soon, and once for all that ask until then.

    `draw` reads the state when it runs, so a slider that moves on while messages wait is drawn
    where it is, not where it was. Without a running event loop it draws at once.
    """
    waiting = False

    def run():
        nonlocal waiting
        waiting = False
        draw()

    def ask():
        nonlocal waiting
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            draw()
            return
        if not waiting:
            waiting = True
            loop.call_later(DELAY, run)

    return ask
