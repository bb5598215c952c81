# SPDX-License-Identifier: Apache-2.0
"""midoryu's tests.

A real package, as a dependency (tinyrpc) installs a package `tests` of its own, which
would hide this directory.
"""
