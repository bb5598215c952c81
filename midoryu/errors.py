# SPDX-License-Identifier: Apache-2.0
"""The exception family of midoryu.

Expected things (no route, ARP unknown, loop) are values, never exceptions. A local
mistake and a remote misbehaviour never share a class.
"""


class MidoryuError(Exception):
    """Base of every error that midoryu raises on purpose."""


class ConfigError(MidoryuError):
    """A setting is missing, unknown or contradictory."""


class TopologyError(MidoryuError):
    """The virtual topology (a file or a database row) is wrong."""


class DecodeError(MidoryuError):
    """Bytes from a VM, a peer or the switch are not what they should be."""


class DatapathError(MidoryuError):
    """The switch refused what it was sent."""


class NsdbError(MidoryuError):
    """The network state database refused a transaction or cannot be reached."""
