"""Progress of a run, to a callback or as a bar."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ._results import Progress

Listener = Callable[[int, int, "float | None", "float | None"], Any]


@contextlib.contextmanager
def listener(progress: Callable[[Progress], Any] | bool) -> Iterator[Listener | None]:
    """What the native half calls after every epoch."""
    if progress is False or progress is None:
        yield None
    elif progress is True:
        with _bar() as advance:
            yield lambda *news: advance(Progress(*news))
    else:
        yield lambda *news: progress(Progress(*news))


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    """tqdm's where it is installed, else a line on standard error."""
    try:
        from tqdm.auto import tqdm
    except ImportError:

        def tell(news: Progress) -> None:
            print(f"\repoch {news.epoch} of {news.epochs}", end="", file=sys.stderr, flush=True)

        try:
            yield tell
        finally:
            print(file=sys.stderr)
        return
    with tqdm(unit="epoch") as bar:

        def advance(news: Progress) -> None:
            bar.total = news.epochs
            if news.loss is not None:
                bar.set_postfix(loss=f"{news.loss:.3f}", refresh=False)
            bar.update()

        yield advance
