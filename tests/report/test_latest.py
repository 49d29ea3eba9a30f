"""Of many requests to draw, the latest is drawn, once."""

import asyncio

from qknb.report.latest import latest


def test_without_a_loop_it_draws_at_once():
    drawn = []
    ask = latest(lambda: drawn.append(1))
    ask()
    ask()
    assert drawn == [1, 1]


def test_requests_that_wait_come_together_and_later_ones_are_drawn_again():
    state, drawn = {"at": 0}, []

    async def session():
        ask = latest(lambda: drawn.append(state["at"]))
        for state["at"] in range(1, 6):
            ask()
        await asyncio.sleep(0.08)
        state["at"] = 9
        ask()
        await asyncio.sleep(0.08)

    asyncio.run(session())
    assert drawn == [5, 9]
