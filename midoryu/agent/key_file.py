# SPDX-License-Identifier: Apache-2.0
"""The file with the keys of flow state: read at the start, and again when it changes.

`cmd` reads it for the configuration; the agent then looks at it each second, and at
once on SIGHUP. What is wrong with a new file is logged, and the old keys stay.
"""

from __future__ import annotations

import binascii
import logging
from collections.abc import Callable
from typing import Any, Final

from midoryu.errors import ConfigError

LOG = logging.getLogger(__name__)
# RFC 7693, section 2.1: a key of BLAKE2s has at most 32 bytes.
_KEY_BYTES: Final = (16, 32)
_MAX_FILE_BYTES: Final = 1 << 16
_LOOK_S: Final = 1.0

Keys = tuple[bytes, ...]


def read_keys(path: str) -> Keys:
    """Read one key in hexadecimal from each line; the first is to sign.

    Raises:
        ConfigError: the file cannot be read, or does not hold keys.
    """
    keys = []
    for number, word in enumerate(_read(path).split(), 1):
        try:
            key = binascii.unhexlify(word)
        except ValueError:
            raise ConfigError(f"{path}: key {number} is not hexadecimal") from None
        if not _KEY_BYTES[0] <= len(key) <= _KEY_BYTES[1]:
            raise ConfigError(
                f"{path}: key {number} has {len(key)} bytes, "
                f"want {_KEY_BYTES[0]} to {_KEY_BYTES[1]}"
            )
        keys.append(key)
    if not keys:
        raise ConfigError(f"{path} holds no key")
    return tuple(keys)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{path} is no text file") from None


class KeyFile:
    """Watches the file.

    Args:
        path: of the file.
        keys: what was read from it at the start.
        changed: is called with other keys than before.
    """

    def __init__(self, path: str, keys: Keys, changed: Callable[[Keys], None]) -> None:
        self._path = path
        self._keys = keys
        self._changed = changed
        self._complaint = ""

    def look(self) -> None:
        """Read the file; a file that is being written is read again a second later."""
        try:
            keys = read_keys(self._path)
        except ConfigError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                LOG.error("flow state keeps its keys: %s", error)
            return
        self._complaint = ""
        if keys != self._keys:
            self._keys = keys
            LOG.info("%s has changed: %d keys", self._path, len(keys))
            self._changed(keys)

    def watch(self, sleep: Callable[[float], Any]) -> None:
        """Look each second for as long as the process lives."""
        while True:
            sleep(_LOOK_S)
            self.look()
