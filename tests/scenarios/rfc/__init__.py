# SPDX-License-Identifier: Apache-2.0
"""What the RFCs ask of a NAT, row by row, each row with its test."""
