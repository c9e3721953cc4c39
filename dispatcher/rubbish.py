"""When Python looks for rubbish: not while much is made that is soon gone by itself."""

import gc
from types import TracebackType


class uncollected:  # noqa: N801 - it is used as a function
    """Within this block, which is to be short, nobody looks for rubbish: a chunk of mails would be gone through again
    and again, for a tenth of the time that it takes. Of several threads, who ends first lets it begin again."""

    def __enter__(self) -> None:
        self._enabled = gc.isenabled()
        gc.disable()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._enabled:
            gc.enable()
