# SPDX-License-Identifier: Apache-2.0
"""Tests with a real Neutron: run them with `tools/test neutron`."""
