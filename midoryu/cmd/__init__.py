# SPDX-License-Identifier: Apache-2.0
"""Entry points: they read the command line and the options, and hand over.

Every command says what is wrong in one line on standard error and ends with status 1;
none of them holds anything that a test would want to call without a command line.
"""
