"""Work on partitions by a thread of its own, as soon as nothing more is expected for them."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Early(Generic[T]):
    """What `make` gives for each partition, begun early; one at a time, in the order of `begin`.

    At the end of the block no thread is left; what has not begun by then never does.
    """

    def __init__(self, make: Callable[[str], Callable[[], T]]) -> None:
        """`make` is called in the thread of `begin`, what it gives in the thread that works."""
        self._make = make
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="partitions")
        self._made: dict[str, Future[T]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def begin(self, partition: str) -> None:
        """Begin, unless that was done."""
        if partition not in self._made:
            self._made[partition] = self._pool.submit(self._make(partition))

    def take_back(self, partition: str) -> None:
        """There is more of it after all: what was made of it, or failed at it, counts no more."""
        made = self._made.pop(partition, None)
        if made is not None and not made.cancel():
            made.exception()  # it has ended then

    def result(self, partition: str) -> T:
        """What was made; raises what making it raised."""
        self.begin(partition)
        return self._made.pop(partition).result()
