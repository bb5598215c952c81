# SPDX-License-Identifier: Apache-2.0
"""The benchmark suite behind `tools/bench`.

Decides what is measured and how it is told; changes nothing in the rooms it measures.

    cli ─► packet_in ─► stage (NSDB, OVSDB, three ryu-managers) ◄─ switch (processes)
        └► micro ────► stage (NSDB only), then every step of the path in this process
    report: samples -> medians, ratios, table or JSON

Invariants: each figure has a reference that was measured in the same run, repetition
by repetition, so that a busy machine slows both; everything lives in one temporary
directory and on loopback; every process that was started is ended by its pid.
"""
