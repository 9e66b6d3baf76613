"""The headers of tars, read as the place allows: one by one from a disk, in large blocks side by side from a store.

On an object store a request costs tens of milliseconds and a chain of headers one request an image. A block holds
dozens of headers for the price of one request; those ahead are fetched while one is read.
"""

from concurrent.futures import Future, ThreadPoolExecutor

from components.shared import storage

HEADER_BYTES = 512
BLOCK_BYTES = 4 << 20
NUM_FETCHES = 16  # at the same time, in this process

_fetching = ThreadPoolExecutor(NUM_FETCHES, thread_name_prefix="headers")


class Reader:
    """Reads a part of a file in the order of its offsets.

    Args:
        uri: the file.
        start: first byte of the part.
        end: behind its last byte.
        num_ahead: blocks to fetch ahead from an object store; negative: no blocks, only the requested bytes.
    """

    def __init__(self, uri: str, start: int, end: int, num_ahead: int) -> None:
        self._uri, self._start, self._end, self._num_ahead = uri, start, end, num_ahead
        self._is_direct = num_ahead < 0 or storage.is_local(uri)
        self._blocks: dict[int, Future[bytes]] = {}

    def read(self, at: int, num_bytes: int = HEADER_BYTES) -> bytes:
        """Read some bytes; fewer come back only where the part ends.

        Raises:
            StorageError: the file cannot be read.
        """
        num_bytes = min(num_bytes, self._end - at)
        if self._is_direct:
            return storage.read_range(self._uri, at, num_bytes)
        parts = []
        while num_bytes > 0:
            number, skipped = divmod(at - self._start, BLOCK_BYTES)
            part = self._block(number)[skipped : skipped + num_bytes]
            if not part:
                break
            parts.append(part)
            at, num_bytes = at + len(part), num_bytes - len(part)
        return b"".join(parts)

    def _block(self, number: int) -> bytes:
        for old in [other for other in self._blocks if other < number]:
            self._blocks.pop(old).cancel()
        for ahead in range(number, number + 1 + self._num_ahead):
            at = self._start + ahead * BLOCK_BYTES
            if at < self._end and ahead not in self._blocks:
                size = min(BLOCK_BYTES, self._end - at)
                self._blocks[ahead] = _fetching.submit(storage.read_range, self._uri, at, size)
        return self._blocks[number].result()

    def close(self) -> None:
        """Forget what was fetched ahead."""
        while self._blocks:
            self._blocks.popitem()[1].cancel()
